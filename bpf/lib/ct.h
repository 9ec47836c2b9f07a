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
 * A flow's life. A flow has two entries: its own in lab_ct, by the tuple that its packets have before they are
 * translated, and its answers' in lab_nat, by the one that these come with. Each has all that has been seen of
 * the flow, and none of it is lost: each mark is a byte of its own that is only set, so that CPUs that write at once
 * need no lock, and when the flow is over is reckoned from the marks whenever somebody asks.
 *
 *   state     | seen                    | is forgotten when quiet for | its answers' tuple
 *   opening   | no answer               | 60 s, UDP 30 s, echo 30 s   | is taken
 *   answered  | an answer               | 60 s, UDP 120 s, echo 30 s  | is taken
 *   lasting   | more after an answer    | 6 h, UDP 120 s, echo 30 s   | is taken
 *   closing   | a FIN from each side    | 75 s                        | rests
 *   reset     | a RST, and nothing since| 75 s                        | rests
 *   overdue   | nothing for that long   |                             | is free
 *
 *   who opens      A packet that may open a flow and finds no entry: may_open(), enter().
 *   who closes     FINs of both sides, or a RST of either. Nobody here knows whether an end accepts a segment, so a
 *                  RST is a suspicion: any later segment of the flow takes it back. FINs are not taken back.
 *   who reopens    A SYN or a datagram of the same tuple, when the flow is closing, reset or overdue; a datagram also
 *                  when the flow's backend is not one any more. It is opened with what is chosen then: continues().
 *   who moves      A packet of a flow that would not get the address today that the flow has. A TCP connection with
 *                  an address that is still one of the node's goes on with that; with one that is gone it cannot
 *                  live, and goes out with another, so that the far end tells the pod: is_current().
 *   who takes over Another flow, which wants the same answers: at once when this one is overdue. While it rests only
 *                  when every port that was tried is taken or rests; then those that are closing come before those
 *                  that are reset, and the longest quiet first. Packets of who was taken over from find that out: touch().
 *   who forgets    User space, when the flow is overdue, and the maps, when they are full: either entry alone. A flow
 *                  that is not lasting when half as many have been opened as there is room for, or not any more: who
 *                  opens the next one, see admit.h.
 *   who restores   A missing entry is put back by the other one's next packet, at most a second later: touch().
 *                  Where that cannot come before an answer does, user space does it: Services.Collect. Until then
 *                  such answers are dropped, as the node's stack would end the connection: decide_in() in netdev.c.
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

/* What becomes of the four fields of a packet, and what is known of its flow. */
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

/* Whether its end was seen. */
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

/* In how many seconds it is overdue: negative when it is. */
static __always_inline __s32 time_left(const struct translation *e, __u8 proto)
{
	return e->seen + timeout_of(e, proto) - seconds();
}

/* Whether who opened a flow may open it again. */
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

/* Whether that is news. */
static __always_inline bool mark(__u8 *seen, bool now)
{
	if (!now || *seen)
		return false;
	*seen = 1;
	return true;
}

/* Takes a packet of the flow into account, with its TCP flags if it has any. Whether that changed anything: at most once a second otherwise. */
static __always_inline bool update(struct translation *e, __u8 tcp_flags, bool back)
{
	bool lasting = e->answered && !(tcp_flags & (TCP_SYN | TCP_RST)), news = mark(&e->answered, back), reset = tcp_flags & TCP_RST;
	__u32 now = seconds();

	/* One answer, of many packets perhaps, anybody gets. */
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

/* Lets one entry of a flow know what the other one does. */
static __always_inline void tell(struct translation *other, const struct translation *e)
{
	mark(&other->answered, e->answered);
	mark(&other->lasting, e->lasting);
	mark(&other->fin, e->fin);
	mark(&other->fin_back, e->fin_back);
	other->reset = e->reset;
	other->seen = e->seen;
}
