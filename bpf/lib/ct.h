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
 * in lab_nat has as key the tuple of the answers before translation. Each entry has the flow (struct flow) and what the
 * addresses of its packets become (struct translation), and holds the whole state, so one that is lost can be made from the
 * other. Each mark of the state is a byte of its own. Marks are set and, but for reset, never cleared, so CPUs that write at
 * the same time need no lock. Nobody stores whether a flow is over: it is computed from the marks when somebody asks.
 *
 *   state     | seen                       | timeout after the last packet | the answers' tuple
 *   opening   | no answer                  | 60 s, UDP 30 s, echo 30 s     | belongs to the flow
 *   answered  | an answer                  | 60 s, UDP 120 s, echo 30 s    | belongs to the flow
 *   lasting   | packets after an answer    | 6 h, UDP 120 s, echo 30 s     | belongs to the flow
 *   closing   | a FIN from each side       | 75 s                          | rests
 *   reset     | a RST, and nothing since   | 75 s                          | rests
 *   overdue   | nothing during the timeout |                               | is free
 *
 *             | from               | to                | who, and when                                   | where
 *   opens     | no entry           | opening           | a packet that may open a flow                   | may_open(), enter()
 *   closes    | answered, lasting  | closing           | the second FIN, from the other side than the    | update()
 *             |                    |                   | first. A FIN is not taken back                  |
 *             | any                | reset             | a RST from either side; the next segment takes  | update()
 *             |                    |                   | it back, as the receiver may not have taken it  |
 *   reopens   | closing, reset,    | opening, with     | a SYN or a datagram with the same tuple         | continues(), enter()
 *             | overdue            | a new choice      |                                                 |
 *             | any, UDP           | opening           | a datagram whose backend is none any more       | continues(), enter()
 *   moves     | any                | opening, with     | a packet of a flow that would get another       | is_current(), enter()
 *             |                    | another address   | address today. A TCP connection keeps its own   |
 *             |                    |                   | as long as the node has it; after that the far  |
 *             |                    |                   | end answers with a reset                        |
 *   takes     | overdue            | without the       | another flow that needs the answers' tuple, at  | claim()
 *   over      |                    | answers' tuple    | once                                            |
 *             | closing, then      | the same          | another flow, when each port that it tried      | rests(), claim()
 *             | reset              |                   | belongs to a flow or rests: from the one that   |
 *             |                    |                   | has been quiet longest                          |
 *             | taken over         | opening           | its next packet, which finds that out           | touch(), enter()
 *   collects  | overdue            | no entry          | user space                                      | Services.Collect
 *             | any                | one entry         | a full map evicts the other one                 | the kernel
 *             | not lasting,       | no entry          | the flow that is opened when half as many flows | take_turn()
 *             | or over            |                   | as there is room for were opened since          |
 *   restores  | one entry          | as it was         | the next packet that finds it, within a second  | touch()
 *             |                    |                   | user space, where an answer may come before     | Services.Collect
 *             |                    |                   | that. Until then the answer is dropped: the     | decide_in()
 *             |                    |                   | node's stack would reset the connection         |
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

/* What is known of a flow, whichever way its packets go and whatever they become. */
struct flow {
	__u32 seen; /* its latest packet: seconds of CLOCK_MONOTONIC */
	__u32 service; /* that was asked for; 0: none */
	__u32 src_identity; /* of who opened it; kept for policies: always 0 */
	__u32 dst_identity; /* of the other side; likewise */
	enum ct_kind kind;
	/* Marks, 0 or 1, each a byte of its own: see above. */
	__u8 answered;
	__u8 fin; /* from who opened it */
	__u8 fin_back; /* from the other side */
	__u8 reset;
	__u8 lasting; /* it went on after an answer */
	__u16 turn; /* the low 16 bits of its number in lab_turns: see admit.h */
};
_Static_assert(sizeof(struct flow) == 24, "shared with datapath/");

/*
 * One direction of a flow. The way to the other direction's entry is the translation: its key is what to says, turned
 * round. A packet has both parts by one look into a map. In two maps it would take a second one, and state that only one of
 * them has would be lost with its entry.
 */
struct flow_entry {
	struct flow flow;
	struct translation to;
};
_Static_assert(sizeof(struct flow_entry) == 64, "shared with datapath/");

/* Flows by the tuples of the opener's packets. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct tuple);
	__type(value, struct flow_entry);
	__uint(max_entries, 65536);
} lab_ct SEC(".maps");

/* Flows by the tuples of the answers. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct tuple);
	__type(value, struct flow_entry);
	__uint(max_entries, 65536);
} lab_nat SEC(".maps");

/* The coarse clock, which user space has too. It takes a call and a division, so it is read once for a packet of a known flow. */
static __always_inline __u32 seconds(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000;
}

/* Whether both sides have closed the connection, or one has reset it. */
static __always_inline bool is_closed(const struct flow *f)
{
	return f->reset || (f->fin && f->fin_back);
}

static __noinline enum lab_timeout timeout_of(const struct flow *f, __u8 proto)
{
	if (proto == IPPROTO_ICMP)
		return LAB_TIMEOUT_ECHO;
	if (proto == IPPROTO_UDP)
		return f->answered ? LAB_TIMEOUT_UDP : LAB_TIMEOUT_UDP_OPENING;
	if (is_closed(f))
		return LAB_TIMEOUT_TCP_CLOSING;
	return f->lasting ? LAB_TIMEOUT_TCP : LAB_TIMEOUT_TCP_OPENING;
}

/* Returns the seconds until the flow is overdue. Negative: it is overdue. */
static __always_inline __s32 time_left(const struct flow *f, __u8 proto, __u32 now)
{
	return f->seen + timeout_of(f, proto) - now;
}

/* Whether the flow has ended, so that its opener may open it again. */
static __always_inline bool is_over(const struct flow *f, __u8 proto, __u32 now)
{
	return is_closed(f) || time_left(f, proto, now) < 0;
}

/* The flags of the flow's key in lab_ct. */
static __always_inline enum tuple_flag flags_of(const struct flow *f)
{
	return f->kind == CT_SERVICE ? 0 : TUPLE_MASQUERADE;
}

/* The tuple of packets in the other direction, before these are translated: of answers, as a key of lab_nat. */
static __always_inline void answer_to(struct tuple *a, const struct translation *to, __u8 proto)
{
	set_tuple(a, &to->dst, &to->src, to->dport, to->sport, proto);
	a->direction = TUPLE_BACK;
}

/* The tuple of answers to t, as they come when nothing translates them. */
static __always_inline void answered_by(struct tuple *a, const struct tuple *t)
{
	set_tuple(a, &t->dst, &t->src, t->dport, t->sport, t->proto);
	a->direction = TUPLE_BACK;
}

/* Whether a translation makes answers to t of the packets it is for. */
static __always_inline bool answers(const struct translation *to, const struct tuple *t)
{
	return to->sport == t->dport && to->dport == t->sport && ip_equal(&to->src, &t->dst) && ip_equal(&to->dst, &t->src);
}

/* The entry of the other direction, for packets that t's are the answers to. */
static __always_inline void reverse(struct flow_entry *other, const struct flow_entry *e, const struct tuple *t)
{
	*other = *e;
	other->to.src = t->dst;
	other->to.dst = t->src;
	other->to.sport = t->dport;
	other->to.dport = t->sport;
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

/* Sets a mark of the state when seen is true. Returns whether the mark was not set before. */
static __always_inline bool set_once(__u8 *state_mark, bool seen)
{
	if (!seen || *state_mark)
		return false;
	*state_mark = 1;
	return true;
}

/*
 * Changes the state by one packet of the flow and its TCP flags, 0 if it is no TCP. Returns whether the state has changed; a
 * packet that only shows that the flow is alive changes it once a second at most.
 */
static __always_inline bool update(struct flow *f, __u8 tcp_flags, bool back, __u32 now)
{
	bool lasting = f->answered && !(tcp_flags & (TCP_SYN | TCP_RST)), news = set_once(&f->answered, back), reset = tcp_flags & TCP_RST;

	/* A first answer, which may be several packets, makes no lasting flow: whoever sends a request gets one. */
	news |= set_once(&f->lasting, lasting && (!back || f->seen != now));

	news |= set_once(back ? &f->fin_back : &f->fin, tcp_flags & TCP_FIN);
	if (f->reset != reset) {
		f->reset = reset;
		news = true;
	}
	if (f->seen != now) {
		f->seen = now;
		news = true;
	}
	return news;
}

/* Copies the state from one entry of a flow to the other. */
static __always_inline void copy_state(struct flow *other, const struct flow *f)
{
	set_once(&other->answered, f->answered);
	set_once(&other->lasting, f->lasting);
	set_once(&other->fin, f->fin);
	set_once(&other->fin_back, f->fin_back);
	other->reset = f->reset;
	other->seen = f->seen;
}
