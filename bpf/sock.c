//go:build ignore

/*
 * Services at sockets: a process that connects to a Service, or sends to one, is given a backend at once,
 * and no packet has to be translated. What asks for the peer's address is told the Service's.
 */

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/ct.h"
#include "lib/lb.h"

#define ECONNREFUSED 111
#define EHOSTUNREACH 113

enum { ALLOW = 1, DENY = 0 };

/* A backend as the peer of a socket. */
struct peer_key {
	__u64 cookie; /* of the socket */
	struct ip addr;
	__be16 port;
	__u8 proto;
	__u8 pad[5]; /* always 0 */
};
_Static_assert(sizeof(struct peer_key) == 32, "shared with datapath/");

/* What the socket's process takes it for. */
struct peer {
	struct ip addr;
	__be16 port;
	__u8 pad[6];
};
_Static_assert(sizeof(struct peer) == 24, "shared with datapath/");

/* A socket that has not been used for long may find its peer's name forgotten, but goes on to work. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct peer_key);
	__type(value, struct peer);
	__uint(max_entries, 65536);
} lab_peers SEC(".maps");

/*
 * UDP sockets that have spoken to a Service. All others, which is most, need no look for the peer of each
 * datagram. Connections have one peer, and are hardly ever asked for it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__type(key, int);
	__type(value, struct present);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} lab_sockets SEC(".maps");

/* The address in a hook's context. */
struct where {
	struct ip addr;
	__be16 port;
};

/* Whether lab_peers may have the socket's. With BPF_SK_STORAGE_GET_F_CREATE it may from now on. */
static __always_inline bool has_peers(struct bpf_sock_addr *ctx, __u64 flags)
{
	if (ctx->protocol != IPPROTO_UDP)
		return true;
	return ctx->sk && bpf_sk_storage_get(&lab_sockets, ctx->sk, NULL, flags);
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

/* 127.0.0.0/8 is another place in each network namespace: a Service is there in the node's own only. */
static __always_inline bool is_elsewhere(struct bpf_sock_addr *ctx, const struct ip *addr)
{
	union ip_words u = { .ip = *addr };

	return (u.w32[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000) && bpf_get_netns_cookie(ctx) != cfg_node_netns;
}

/*
 * A socket has no address yet, or many: for session affinity its client is its network namespace. The
 * address that stands for it is none that packets have.
 */
static __always_inline struct ip client_of(struct bpf_sock_addr *ctx)
{
	union ip_words u = {};

	u.w64[1] = bpf_get_netns_cookie(ctx);
	return u.ip;
}

static __always_inline const struct service *service_at(struct bpf_sock_addr *ctx, const struct where *w)
{
	struct service_key key = { .addr = w->addr, .port = w->port, .proto = ctx->protocol, .scope = LAB_INSIDE };

	return bpf_map_lookup_elem(&lab_services, &key);
}

static __always_inline const struct backend *backend_for(struct bpf_sock_addr *ctx, const struct service *s)
{
	struct ip client = client_of(ctx);
	__u32 id;

	return choose(s, &client, bpf_get_prandom_u32(), seconds(), &id);
}

static __always_inline int refuse(const struct service *s)
{
	bpf_set_retval(s && s->flags & LAB_HAS_REMOTE ? -EHOSTUNREACH : -ECONNREFUSED);
	return DENY;
}

/*
 * A UDP socket that sends to a backend by its own address, and did so through a Service before: from now
 * on what comes from there is the backend's.
 */
static __always_inline void forget(struct bpf_sock_addr *ctx, const struct where *w)
{
	struct peer_key key;

	if (!has_peers(ctx, 0))
		return;
	key = peer_of(ctx, w);
	bpf_map_delete_elem(&lab_peers, &key);
}

/* Puts a backend in the Service's place, if w is one. The caller writes w back when changed is set. */
static __always_inline int translate(struct bpf_sock_addr *ctx, struct where *w, bool *changed)
{
	struct peer seen = { .addr = w->addr, .port = w->port };
	const struct service *s;
	const struct backend *b;
	struct peer_key key;

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return ALLOW;
	s = service_at(ctx, w);
	if (!s || is_elsewhere(ctx, &w->addr)) {
		if (ctx->protocol == IPPROTO_UDP)
			forget(ctx, w);
		return ALLOW;
	}
	b = backend_for(ctx, s);
	if (!b) { /* its list may just have been replaced */
		s = service_at(ctx, w);
		b = s ? backend_for(ctx, s) : NULL;
	}
	if (!b)
		return refuse(s);
	w->addr = b->addr;
	w->port = b->port;
	*changed = true;
	key = peer_of(ctx, w);
	bpf_map_update_elem(&lab_peers, &key, &seen, BPF_ANY);
	has_peers(ctx, BPF_SK_STORAGE_GET_F_CREATE);
	return ALLOW;
}

/* Puts the Service in the backend's place. */
static __always_inline bool translate_back(struct bpf_sock_addr *ctx, struct where *w)
{
	struct peer_key key;
	struct peer *seen;

	if (!has_peers(ctx, 0))
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

/* A process says where to: connect, or send without being connected. */
static __always_inline int ask4(struct bpf_sock_addr *ctx)
{
	struct where w = where4(ctx);
	bool changed = false;
	int verdict = translate(ctx, &w, &changed);

	if (changed)
		set4(ctx, &w);
	return verdict;
}

static __always_inline int ask6(struct bpf_sock_addr *ctx)
{
	struct where w;
	bool changed = false;
	int verdict;

	if (!where6(ctx, &w))
		return ALLOW;
	verdict = translate(ctx, &w, &changed);
	if (changed)
		set6(ctx, &w);
	return verdict;
}

/* A process is told where from: by recvfrom, recvmsg or getpeername. */
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
	return ask4(ctx);
}

SEC("cgroup/sendmsg4")
int lab_sendmsg4(struct bpf_sock_addr *ctx)
{
	return ask4(ctx);
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
	return ask6(ctx);
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

char _license[] SEC("license") = "GPL";
