// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>

#include "tuple.h"

/*
 * The life of a flow.
 *
 * A flow has two entries. The entry in lab_ct has as key the tuple of the opener's packets before translation. The entry
 * in lab_nat has as key the tuple of the answers before translation. Each entry holds the whole state of the flow, so one
 * that is lost can be made from the other. Each mark of the state is a byte of its own. Marks are set and, but for reset,
 * never cleared, so CPUs that write at the same time need no lock. Nobody stores whether a flow is over: it is computed
 * from the marks when somebody asks.
 *
 *   state     | seen                       | timeout after the last packet | the answers' tuple
 *   opening   | no answer                  | 60 s, UDP 30 s, echo 30 s     | belongs to the flow
 *   answered  | an answer                  | 60 s, UDP 120 s, echo 30 s    | belongs to the flow
 *   lasting   | packets after an answer    | 6 h, UDP 120 s, echo 30 s     | belongs to the flow
 *   closing   | a FIN from each side       | 75 s                          | rests
 *   reset     | a RST, and nothing since   | 75 s                          | rests
 *   overdue   | nothing during the timeout |                               | is free
 *
 *   who opens      A packet that finds no entry and may open a flow: may_open(), enter().
 *   who closes     A FIN from each side, or a RST from one. The programs do not know whether the receiver accepts a
 *                  segment, so the next segment of the flow takes a RST back. A FIN is not taken back.
 *   who reopens    A SYN or a datagram with the same tuple, when the flow is closing, reset or overdue; a datagram also
 *                  when the flow's backend is no backend any more. The new flow gets what is chosen then: continues().
 *   who moves      A packet of a flow that would get another address today: the flow is opened again with that address.
 *                  A TCP connection keeps its address as long as the node has it. After that it gets the new one, and
 *                  the far end answers with a reset: is_current().
 *   who takes over Another flow that needs the same answers' tuple: at once when this flow is overdue. While it rests, only
 *                  when every port that was tried belongs to a flow or rests. Closing flows lose it before reset ones, and
 *                  the one that has been quiet longest first. A packet of the flow that has lost its tuple finds that
 *                  out: touch().
 *   who collects   User space, when the flow is overdue. The maps, when they are full: one entry alone. The next flow that
 *                  is opened, when half as many flows as there is room for were opened since this one and it is not
 *                  lasting, or is over: admit.h.
 *   who restores   The next packet that finds one entry puts the other one back, within a second: touch(). User space does
 *                  it where an answer may come before such a packet: Services.Collect. Until then the answer is dropped,
 *                  as the node's stack would reset the connection: decide_in() in netdev.c.
 */

/*
 * Seconds after its last packet that a flow is remembered. Established TCP: a keepalive of two hours
 * (RFC 1122, 4.2.3.6) with room to spare. Closing: the far end's TIME_WAIT, which is 60 s where it is longest in use,
 * and the last packets on their way. UDP: those of the kernel's connection tracking, which local
 * backends' flows pass too, and which must not masquerade answers that it takes for new flows.
 */
enum lab_timeout {
	LAB_TIMEOUT_TCP = 21600,
	LAB_TIMEOUT_TCP_OPENING = 60,
	LAB_TIMEOUT_TCP_CLOSING = 75,
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

/* The addresses and ports that packets get, and the state of their flow. */
struct translation {
	struct ip src;
	struct ip dst;
	__be16 sport;
	__be16 dport;
	__u32 seen; /* its latest packet: seconds of CLOCK_MONOTONIC */
	__u32 service; /* 0: none, the flow only needed another port */
	__u32 backend;
	enum ct_kind kind;
	/* 0 or 1, each a byte of its own: see above. */
	__u8 answered;
	__u8 fin; /* from who opened it */
	__u8 fin_back; /* from the other side */
	__u8 reset;
	__u8 lasting; /* it went on after an answer */
	__u16 turn; /* its own, as far as it goes: see admit.h */
};
_Static_assert(sizeof(struct translation) == 56, "shared with datapath/");

/* Translated flows: see above. */
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

/* Whether both sides have closed the connection, or one has reset it. */
static __always_inline bool is_closed(const struct translation *e)
{
	return e->reset || (e->fin && e->fin_back);
}

static __noinline enum lab_timeout timeout_of(const struct translation *e, __u8 proto)
{
	if (proto == IPPROTO_ICMP)
		return LAB_TIMEOUT_ECHO;
	if (proto == IPPROTO_UDP)
		return e->answered ? LAB_TIMEOUT_UDP : LAB_TIMEOUT_UDP_OPENING;
	if (is_closed(e))
		return LAB_TIMEOUT_TCP_CLOSING;
	return e->lasting ? LAB_TIMEOUT_TCP : LAB_TIMEOUT_TCP_OPENING;
}

/* Returns the seconds until the flow is overdue. Negative: it is overdue. */
static __always_inline __s32 time_left(const struct translation *e, __u8 proto)
{
	return e->seen + timeout_of(e, proto) - seconds();
}

/* Whether the flow has ended, so that its opener may open it again. */
static __always_inline bool is_over(const struct translation *e, __u8 proto)
{
	return is_closed(e) || time_left(e, proto) < 0;
}

/* Where in lab_ct a flow of its kind is. */
static __always_inline enum stage stage_of(const struct translation *e)
{
	return e->kind == CT_SERVICE ? STAGE_SERVICE : STAGE_MASQUERADE;
}

/* The tuple of packets in the other direction, before these are translated. */
static __always_inline void answer_to(struct tuple *a, const struct translation *e, __u8 proto)
{
	set_tuple(a, &e->dst, &e->src, e->dport, e->sport, proto);
}

/* The tuple of answers to t, as they come when nothing translates them. */
static __always_inline void answered_by(struct tuple *a, const struct tuple *t)
{
	set_tuple(a, &t->dst, &t->src, t->dport, t->sport, t->proto);
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

/* Whether a packet is the first segment of a connection. */
static __always_inline bool opens(const struct packet *p)
{
	return (p->ev.tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* Whether a packet is the second segment of a connection, a SYN with ACK. */
static __always_inline bool accepts(const struct packet *p)
{
	return (p->ev.tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
}

/* Sets a mark when now is true. Returns whether the mark was not set before. */
static __always_inline bool mark(__u8 *seen, bool now)
{
	if (!now || *seen)
		return false;
	*seen = 1;
	return true;
}

/*
 * Changes the state by one packet of the flow and its TCP flags, 0 if it is no TCP. Returns whether the state has changed; a
 * packet that only shows that the flow is alive changes it once a second at most.
 */
static __always_inline bool update(struct translation *e, __u8 tcp_flags, bool back)
{
	bool lasting = e->answered && !(tcp_flags & (TCP_SYN | TCP_RST)), news = mark(&e->answered, back), reset = tcp_flags & TCP_RST;
	__u32 now = seconds();

	/* A first answer, which may be several packets, makes no lasting flow: whoever sends a request gets one. */
	news |= mark(&e->lasting, lasting && (!back || e->seen != now));

	news |= mark(back ? &e->fin_back : &e->fin, tcp_flags & TCP_FIN);
	if (e->reset != reset) {
		e->reset = reset;
		news = true;
	}
	if (e->seen != now) {
		e->seen = now;
		news = true;
	}
	return news;
}

/* Copies the state from one entry of a flow to the other. */
static __always_inline void tell(struct translation *other, const struct translation *e)
{
	mark(&other->answered, e->answered);
	mark(&other->lasting, e->lasting);
	mark(&other->fin, e->fin);
	mark(&other->fin_back, e->fin_back);
	other->reset = e->reset;
	other->seen = e->seen;
}
