// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

/*
 * Services at sockets: when a process connects or sends to a Service, the address becomes a backend's, and no packet has to
 * be translated. getpeername and recvfrom report the Service's address.
 *
 * It applies to TCP, and to UDP of the node's own processes. A pod's datagrams are translated at its veth, one by one:
 * when their backend is gone, the next datagram goes to another backend. A connected socket would have to be destroyed.
 */

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/ct.h"
#include "lib/events.h"
#include "lib/lb.h"
#include "lib/report.h"
#include "lib/sockets.h"
#include "lib/tuple.h"

#define ECONNREFUSED 111
#define EHOSTUNREACH 113

enum {
	DENY,
	ALLOW,
};

/* A backend as the peer of a socket. */
struct peer_key {
	__u64 cookie; /* of the socket */
	struct ip addr;
	__be16 port;
	__u8 proto;
	__u8 pad[5]; /* always 0 */
};
_Static_assert(sizeof(struct peer_key) == 32, "shared with datapath/");

/* The address that the process asked for. */
struct peer {
	struct ip addr;
	__be16 port;
	__u8 pad[6];
};
_Static_assert(sizeof(struct peer) == 24, "shared with datapath/");

/* When an entry was evicted, the process sees the backend's address; the socket goes on to work. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct peer_key);
	__type(value, struct peer);
	__uint(max_entries, 65536);
} lab_peers SEC(".maps");

/* The backend of a UDP flow of the node's. */
struct udp_flow {
	__u64 cookie; /* of the socket that has it */
	__u32 backend;
	__u32 seen; /* as in struct affinity */
};
_Static_assert(sizeof(struct udp_flow) == 16, "shared with datapath/");

/*
 * By the socket's port and the Service's address and port. When an entry was evicted, the hash leads to the same backend
 * again, as long as the Service's backends are the same.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct tuple);
	__type(value, struct udp_flow);
	__uint(max_entries, 16384);
} lab_udp_flows SEC(".maps");

/* The address in a hook's context. */
struct where {
	struct ip addr;
	__be16 port;
};

static __always_inline struct udp_socket *udp_socket(struct bpf_sock_addr *ctx, __u64 flags)
{
	return ctx->sk ? bpf_sk_storage_get(&lab_sockets, ctx->sk, NULL, flags) : NULL;
}

/* Whether lab_peers may have the socket's. Connections have one peer, and are hardly ever asked for it. */
static __always_inline bool has_peers(struct bpf_sock_addr *ctx)
{
	return ctx->protocol != IPPROTO_UDP || udp_socket(ctx, 0);
}

static __always_inline struct peer_key peer_of(struct bpf_sock_addr *ctx, const struct where *w)
{
	struct peer_key key = {
		.cookie = bpf_get_socket_cookie(ctx),
		.addr = w->addr,
		.port = w->port,
		.proto = ctx->protocol,
	};

	return key;
}

/* Whether the socket is in the node's own network namespace. */
static __always_inline bool is_nodes(struct bpf_sock_addr *ctx)
{
	return bpf_get_netns_cookie(ctx) == cfg_node_netns;
}

/* Whether an address is a loopback one, or 0.0.0.0, which Linux takes for loopback. It means another host in each network namespace. */
static __always_inline bool is_here(const struct ip *addr)
{
	return !v4(addr) || is_loopback(addr);
}

/*
 * The client of session affinity. A socket may have no address yet, so it is the network namespace, written as an address
 * that no packet has.
 */
static __always_inline struct ip client_of(struct bpf_sock_addr *ctx)
{
	union ip_words u = {};

	u.w64[1] = bpf_get_netns_cookie(ctx);
	return u.ip;
}

/* The Service at an address. A nodePort is at every loopback address of the node. */
static __noinline const struct service *service_at(struct bpf_sock_addr *ctx, const struct where *w, bool nodes)
{
	struct service_key key = { .addr = w->addr, .port = w->port, .proto = ctx->protocol, .scope = LAB_INSIDE };
	const struct service *s;

	if (is_here(&w->addr) && !nodes)
		return NULL;
	s = bpf_map_lookup_elem(&lab_services, &key);
	if (s || !is_here(&w->addr))
		return s;
	key.addr = ip_from_v4(bpf_htonl(0x7f000001));
	s = bpf_map_lookup_elem(&lab_services, &key);
	return s && s->kind == LAB_NODE_PORT ? s : NULL;
}

/*
 * The source address of a socket of the node, for source ranges: the address that it is bound to, or the node's. A node
 * that has the Service's address itself would send from that one; it counts as the node.
 */
static __always_inline struct ip node_source(struct bpf_sock_addr *ctx, const struct where *w)
{
	__be32 bound = ctx->sk ? ctx->sk->src_ip4 : 0;

	return bound && bound != v4(&w->addr) ? ip_from_v4(bound) : cfg_node_ip;
}

/*
 * The flow from a port of the node to a Service. The source address is not known yet and is left out: all datagrams
 * from one port go to one backend. A socket that has no port yet has a flow of its own.
 */
static __always_inline void set_flow(struct tuple *t, const struct where *w, __u16 port, __u64 cookie)
{
	union ip_words *src = (void *)&t->src; /* no address */

	__builtin_memset(t, 0, sizeof(*t));
	if (!port)
		src->w64[0] = cookie;
	t->dst = w->addr;
	t->sport = bpf_htons(port);
	t->dport = w->port;
	t->proto = IPPROTO_UDP;
}

/* The backend of the flow. NULL if it is gone, or if another socket used the port and its flow has timed out. */
static __noinline const struct backend *known_backend(const struct service *s, const struct tuple *t, __u64 cookie, __u32 now, __u32 *id)
{
	struct udp_flow *f = bpf_map_lookup_elem(&lab_udp_flows, t);
	const struct backend *b;

	if (!f || (f->cookie != cookie && now - f->seen > LAB_TIMEOUT_UDP))
		return NULL;
	*id = f->backend;
	b = member(s, *id);
	if (b && (f->seen != now || f->cookie != cookie)) {
		f->seen = now;
		f->cookie = cookie;
	}
	return b;
}

/*
 * The backend of a flow: always the same one, as long as the Service has it. A socket may get its port after it was
 * connected; its datagrams belong to the flow that it had before.
 */
static __noinline const struct backend *udp_backend(struct bpf_sock_addr *ctx, const struct service *s, const struct where *w, __u32 *id)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	__u16 port = ctx->sk ? ctx->sk->src_port : 0;
	struct tuple t;
	struct udp_flow fresh = { .cookie = cookie, .seen = seconds() };
	const struct backend *b;
	struct ip client;

	set_flow(&t, w, port, cookie);
	b = known_backend(s, &t, cookie, fresh.seen, id);
	if (b)
		return b;
	if (port) {
		set_flow(&t, w, 0, cookie);
		b = known_backend(s, &t, cookie, fresh.seen, id);
		set_flow(&t, w, port, cookie);
	}
	if (!b) {
		client = client_of(ctx);
		b = choose(s, &client, hash(&t), fresh.seen, id);
	}
	if (b) {
		fresh.backend = *id;
		bpf_map_update_elem(&lab_udp_flows, &t, &fresh, BPF_ANY);
	}
	return b;
}

static __noinline const struct backend *tcp_backend(struct bpf_sock_addr *ctx, const struct service *s, __u32 *id)
{
	struct ip client = client_of(ctx);

	return choose(s, &client, bpf_get_prandom_u32(), seconds(), id);
}

static __always_inline const struct backend *backend_for(struct bpf_sock_addr *ctx, const struct service *s, const struct where *w, __u32 *id)
{
	return ctx->protocol == IPPROTO_UDP ? udp_backend(ctx, s, w, id) : tcp_backend(ctx, s, id);
}

static __always_inline int refuse(const struct service *s)
{
	bpf_set_retval(s && s->flags & LAB_HAS_REMOTE ? -EHOSTUNREACH : -ECONNREFUSED);
	return DENY;
}

/*
 * A UDP socket sends to a backend's own address, and has sent to the backend through a Service before. From now on
 * the backend's datagrams are reported with its own address.
 */
static __noinline void forget(struct bpf_sock_addr *ctx, const struct where *w, bool connects)
{
	struct udp_socket *known = udp_socket(ctx, 0);
	struct peer_key key;

	if (!known)
		return;
	if (connects)
		known->service = 0;
	key = peer_of(ctx, w);
	bpf_map_delete_elem(&lab_peers, &key);
}

/* Remembers the address that the process asked for, and the Service of a connected UDP socket. */
static __noinline void remember(struct bpf_sock_addr *ctx, const struct where *asked, const struct backend *b, __u32 service, __u32 backend)
{
	struct where peer = { .addr = b->addr, .port = b->port };
	struct peer_key key = peer_of(ctx, &peer);
	struct peer seen = { .addr = asked->addr, .port = asked->port };
	struct udp_socket *known;

	bpf_map_update_elem(&lab_peers, &key, &seen, BPF_ANY);
	if (ctx->protocol != IPPROTO_UDP)
		return;
	known = udp_socket(ctx, BPF_SK_STORAGE_GET_F_CREATE);
	if (known && service) {
		known->cookie = key.cookie;
		known->backend = backend;
		known->service = service;
	}
}

/* Refuses what the Service's source ranges do not allow. The process gets an error, and the packet that was not sent is counted as dropped. */
static __noinline int refuse_source(struct bpf_sock_addr *ctx, const struct where *w, const struct ip *from)
{
	struct packet p = { .ev = { .src = *from, .dst = w->addr, .dport = w->port, .proto = ctx->protocol, .ether_type = bpf_htons(ETH_P_IP) } };

	if (ctx->sk)
		p.ev.sport = bpf_htons(ctx->sk->src_port);
	count(REASON_SOURCE_RANGE, DIR_TO_NETWORK, 0);
	if (cfg_tells)
		begin_telling();
	write_event(NULL, &p, NULL, REASON_SOURCE_RANGE, DIR_TO_NETWORK);
	return DENY;
}

/*
 * Whether a datagram is for the peer that the socket is connected to. The kernel shows the programs what a connected IPv6
 * socket sends to an IPv4 address as if it were sent with that address.
 */
static __always_inline bool is_peer(struct bpf_sock_addr *ctx, const struct where *w)
{
	const struct bpf_sock *sk = ctx->sk;

	return sk && sk->state == BPF_TCP_ESTABLISHED && sk->dst_ip4 == v4(&w->addr) && sk->dst_port == w->port;
}

/*
 * If w is a Service, replaces its address by a backend's. The caller writes w back when changed is set. Source ranges are
 * checked for the node's processes only: a pod's address is known at its veth.
 */
static __always_inline int translate(struct bpf_sock_addr *ctx, struct where *w, bool connects, bool *changed)
{
	bool nodes = is_nodes(ctx);
	const struct service *s;
	const struct backend *b;
	struct ip from;
	__u32 id;

	if (ctx->protocol != IPPROTO_TCP && (ctx->protocol != IPPROTO_UDP || !nodes))
		return ALLOW;
	if (!connects && is_peer(ctx, w))
		return ALLOW;
	s = service_at(ctx, w, nodes);
	if (!s) {
		if (ctx->protocol == IPPROTO_UDP)
			forget(ctx, w, connects);
		return ALLOW;
	}
	if (s->flags & LAB_SOURCE_RANGES) {
		if (!nodes)
			return ALLOW;
		from = node_source(ctx, w);
		if (!admits(s, &from))
			return refuse_source(ctx, w, &from);
	}
	b = backend_for(ctx, s, w, &id);
	if (!b) { /* its list may just have been replaced */
		s = service_at(ctx, w, nodes);
		b = s ? backend_for(ctx, s, w, &id) : NULL;
	}
	if (!b)
		return refuse(s);
	remember(ctx, w, b, connects ? s->id : 0, id);
	w->addr = b->addr;
	w->port = b->port;
	*changed = true;
	return ALLOW;
}

/* Replaces a backend's address by the Service's. */
static __always_inline bool translate_back(struct bpf_sock_addr *ctx, struct where *w)
{
	struct peer_key key;
	struct peer *seen;

	if (!has_peers(ctx))
		return false;
	key = peer_of(ctx, w);
	seen = bpf_map_lookup_elem(&lab_peers, &key);
	if (!seen)
		return false;
	w->addr = seen->addr;
	w->port = seen->port;
	return true;
}

static __always_inline struct where where4(struct bpf_sock_addr *ctx)
{
	struct where w = { .addr = ip_from_v4(ctx->user_ip4), .port = ctx->user_port };

	return w;
}

static __always_inline void set4(struct bpf_sock_addr *ctx, const struct where *w)
{
	union ip_words u = { .ip = w->addr };

	ctx->user_ip4 = u.w32[3];
	ctx->user_port = w->port;
}

/* IPv6 sockets speak IPv4 too, to mapped addresses: false when it is not one. */
static __always_inline bool where6(struct bpf_sock_addr *ctx, struct where *w)
{
	if (ctx->user_ip6[0] || ctx->user_ip6[1] || ctx->user_ip6[2] != bpf_htonl(0xffff))
		return false;
	w->addr = ip_from_v4(ctx->user_ip6[3]);
	w->port = ctx->user_port;
	return true;
}

static __always_inline void set6(struct bpf_sock_addr *ctx, const struct where *w)
{
	union ip_words u = { .ip = w->addr };

	ctx->user_ip6[3] = u.w32[3];
	ctx->user_port = w->port;
}

/* At connect, and at sends of unconnected sockets. */
static __always_inline int ask4(struct bpf_sock_addr *ctx, bool connects)
{
	struct where w = where4(ctx);
	bool changed = false;
	int verdict = translate(ctx, &w, connects, &changed);

	if (changed)
		set4(ctx, &w);
	return verdict;
}

static __always_inline int ask6(struct bpf_sock_addr *ctx, bool connects)
{
	struct where w;
	bool changed = false;
	int verdict;

	if (!where6(ctx, &w))
		return ALLOW;
	verdict = translate(ctx, &w, connects, &changed);
	if (changed)
		set6(ctx, &w);
	return verdict;
}

/* At recvfrom, recvmsg and getpeername. */
static __always_inline int tell4(struct bpf_sock_addr *ctx)
{
	struct where w = where4(ctx);

	if (translate_back(ctx, &w))
		set4(ctx, &w);
	return ALLOW;
}

static __always_inline int tell6(struct bpf_sock_addr *ctx)
{
	struct where w;

	if (where6(ctx, &w) && translate_back(ctx, &w))
		set6(ctx, &w);
	return ALLOW;
}

SEC("cgroup/connect4")
int lab_connect4(struct bpf_sock_addr *ctx)
{
	return ask4(ctx, true);
}

SEC("cgroup/sendmsg4")
int lab_sendmsg4(struct bpf_sock_addr *ctx)
{
	return ask4(ctx, false);
}

SEC("cgroup/recvmsg4")
int lab_recvmsg4(struct bpf_sock_addr *ctx)
{
	return tell4(ctx);
}

SEC("cgroup/getpeername4")
int lab_peername4(struct bpf_sock_addr *ctx)
{
	return tell4(ctx);
}

/* An IPv6 socket that sends without being connected comes by sendmsg4 when the address is a mapped one. */

SEC("cgroup/connect6")
int lab_connect6(struct bpf_sock_addr *ctx)
{
	return ask6(ctx, true);
}

SEC("cgroup/recvmsg6")
int lab_recvmsg6(struct bpf_sock_addr *ctx)
{
	return tell6(ctx);
}

SEC("cgroup/getpeername6")
int lab_peername6(struct bpf_sock_addr *ctx)
{
	return tell6(ctx);
}

char _license[] SEC("license") = "Dual BSD/GPL";
