//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>

#include "tuple.h"

/* What has been seen of a flow. */
enum ct_state {
	CT_ANSWERED = 1,
	CT_FIN = 2, /* from who opened it */
	CT_FIN_BACK = 4, /* from the other side */
	CT_RESET = 8,
} __attribute__((packed));

/*
 * Seconds after its last packet that a flow is remembered. Established TCP: a keepalive of two hours
 * (RFC 1122, 4.2.3.6) with room to spare. UDP: those of the kernel's connection tracking, which local
 * backends' flows pass too, and which must not masquerade answers that it takes for new flows.
 */
enum lab_timeout {
	LAB_TIMEOUT_TCP = 21600,
	LAB_TIMEOUT_TCP_OPENING = 60,
	LAB_TIMEOUT_TCP_CLOSING = 10,
	LAB_TIMEOUT_UDP = 120,
	LAB_TIMEOUT_UDP_OPENING = 30,
	LAB_TIMEOUT_ECHO = 30,
};

/* Why a flow is remembered. */
enum ct_kind {
	CT_SERVICE = 0, /* it was sent to a Service, or has to be told apart from one that was */
	CT_MASQUERADE = 1, /* it leaves with the node's address */
	CT_INBOUND = 2, /* a pod was asked from outside by its own address, and answers with it */
} __attribute__((packed));

/* What becomes of the four fields of a packet, and what is known of its flow. */
struct translation {
	struct ip src;
	struct ip dst;
	__be16 sport;
	__be16 dport;
	__u32 expires; /* seconds of CLOCK_MONOTONIC */
	__u32 service; /* 0: none, the flow only needed another port */
	__u32 backend;
	enum ct_state state;
	enum ct_kind kind;
	__u8 pad[6];
};
_Static_assert(sizeof(struct translation) == 56, "shared with datapath/");

/*
 * Translated flows. Each has an entry in both maps: in lab_ct by the tuple that its packets have before
 * they are translated, and in lab_nat by the one that the answers come with. Either can be evicted; a
 * packet that finds the other one puts it back.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct tuple);
	__type(value, struct translation);
	__uint(max_entries, 65536);
} lab_ct SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct tuple);
	__type(value, struct translation);
	__uint(max_entries, 65536);
} lab_nat SEC(".maps");

/* The coarse clock is a few nanoseconds' work, and user space has it too. */
static __always_inline __u32 seconds(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000;
}

static __always_inline bool is_closing(const struct translation *e)
{
	const __u8 both = CT_FIN | CT_FIN_BACK;

	return e->state & CT_RESET || (e->state & both) == both;
}

static __always_inline enum lab_timeout timeout_of(const struct translation *e, __u8 proto)
{
	bool answered = e->state & CT_ANSWERED;

	if (proto == IPPROTO_ICMP)
		return LAB_TIMEOUT_ECHO;
	if (proto == IPPROTO_UDP)
		return answered ? LAB_TIMEOUT_UDP : LAB_TIMEOUT_UDP_OPENING;
	if (is_closing(e))
		return LAB_TIMEOUT_TCP_CLOSING;
	return answered ? LAB_TIMEOUT_TCP : LAB_TIMEOUT_TCP_OPENING;
}

/* Whether a flow is over: its end was seen, or nothing has been seen of it for too long. */
static __always_inline bool is_over(const struct translation *e)
{
	return is_closing(e) || (__s32)(seconds() - e->expires) > 0;
}

/* Where in lab_ct a flow of its kind is. */
static __always_inline enum stage stage_of(const struct translation *e)
{
	return e->kind == CT_SERVICE ? STAGE_SERVICE : STAGE_MASQUERADE;
}

/* The tuple of packets in the other direction, before these are translated. */
static __always_inline struct tuple answer_to(const struct translation *e, __u8 proto)
{
	struct tuple t = {
		.src = e->dst,
		.dst = e->src,
		.sport = e->dport,
		.dport = e->sport,
		.proto = proto,
	};

	return t;
}

/* Whether e makes answers to t of the packets it is for. */
static __always_inline bool answers(const struct translation *e, const struct tuple *t)
{
	return e->sport == t->dport && e->dport == t->sport && ip_equal(&e->src, &t->dst) && ip_equal(&e->dst, &t->src);
}

/* The entry of the other direction, for packets that t's are the answers to. */
static __always_inline void reverse(struct translation *other, const struct translation *e, const struct tuple *t)
{
	*other = *e;
	other->src = t->dst;
	other->dst = t->src;
	other->sport = t->dport;
	other->dport = t->sport;
}

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* The first segment of a connection, which answers nothing. Both sides at once (RFC 9293, 3.5) is for the card's ports. */
static __always_inline bool opens(const struct packet *p)
{
	return (p->ev.tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* The second, which is nobody's first. */
static __always_inline bool accepts(const struct packet *p)
{
	return (p->ev.tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
}

/* Takes a packet of the flow into account, with its TCP flags if it has any. Whether that changed anything: at most once a second otherwise. */
static __always_inline bool update(struct translation *e, __u8 tcp_flags, __u8 proto, bool back)
{
	enum ct_state before = e->state;
	__u32 expires;

	if (back)
		e->state |= CT_ANSWERED;
	if (tcp_flags & TCP_FIN)
		e->state |= back ? CT_FIN_BACK : CT_FIN;
	if (tcp_flags & TCP_RST)
		e->state |= CT_RESET;
	expires = seconds() + timeout_of(e, proto);
	if (e->state == before && e->expires == expires)
		return false;
	e->expires = expires;
	return true;
}

/*
 * Keeps both entries of a flow alive, and of one mind about its state. e is the entry that the packet
 * with tuple t found: in lab_nat when it comes back.
 */
static __always_inline void touch(struct translation *e, const struct tuple *t, __u8 tcp_flags, bool back)
{
	struct translation *other, again;
	struct tuple key;

	if (!update(e, tcp_flags, t->proto, back))
		return;
	key = answer_to(e, t->proto);
	if (back)
		key.stage = stage_of(e);
	other = back ? bpf_map_lookup_elem(&lab_ct, &key) : bpf_map_lookup_elem(&lab_nat, &key);
	if (!other) {
		reverse(&again, e, t);
		if (back)
			bpf_map_update_elem(&lab_ct, &key, &again, BPF_NOEXIST);
		else
			bpf_map_update_elem(&lab_nat, &key, &again, BPF_NOEXIST);
	} else if (answers(other, t)) { /* otherwise it is another flow's by now */
		other->state = e->state;
		other->expires = e->expires;
	}
}
