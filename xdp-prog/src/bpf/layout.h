// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * What the program and userspace agree on: the key of the flow map, the numbers of the verdicts, the sizes of the maps.
 * src/flow.rs, src/verdict.rs and src/lib.rs say the same in Rust; tests/layout.rs compares the two, line by line and
 * field by field, so neither side can be changed alone.
 */
#ifndef WIRETICK_LAYOUT_H
#define WIRETICK_LAYOUT_H

#include <linux/types.h>

/* Entries of each map. What breaks when they are lower or higher stands beside their Rust twins in src/lib.rs. */
#define FLOWS_MAX 1024
#define QUEUES_MAX 1024

/* The counters: a row for each receive queue, a column for each verdict. Columns are padded to a power of two, so that
 * a slot is a shift and an addition away; 16 of 8 bytes are two cache lines a queue. */
#define QUEUE_ROWS 64
#define VERDICT_COLUMNS 16
#define VERDICT_SLOTS (QUEUE_ROWS * VERDICT_COLUMNS)

/*
 * A flow, as a received packet shows it: its source is the remote end, its destination is ours. Every field is in
 * network byte order, as it stands in the packet, so the program copies and never converts. There is no padding: the
 * kernel hashes and compares all 40 bytes.
 */
struct flow_key {
    /* IPv4: the first word, the other three are zero. IPv6: all four. */
    __be32 remote[4];
    __be32 local[4];
    __be16 remote_port;
    __be16 local_port;
    /* VLAN identifier, 1 to 4094; 0 for frames without a tag and for priority-tagged ones (VID 0 is no VLAN). */
    __be16 vlan;
    /* ETH_P_IP or ETH_P_IPV6. Without it, an IPv6 packet whose addresses end in zeros could pass for an IPv4 one. */
    __be16 ethertype;
};

_Static_assert(sizeof(struct flow_key) == 40, "userspace writes keys of 40 bytes");

#define QUEUE_WORD_BITS 64
#define QUEUE_WORDS (QUEUES_MAX / QUEUE_WORD_BITS)

/*
 * What is known of a flow. Userspace writes the queues when it enters the flow; the program writes the rest. A flow arrives on one
 * queue, so one CPU counts at a time; while it moves from one queue to another, a count may be lost.
 */
struct flow {
    /* A bit for each queue on which its feed has a socket: the others' sockets are other feeds'. */
    __u64 queues[QUEUE_WORDS];
    __u64 frames;
    /* Those of them that found no socket of their feed on their queue, and went to the kernel. */
    __u32 astray;
    /* The queue of the last one. */
    __u32 last_queue;
};

_Static_assert(sizeof(struct flow) == 144, "userspace writes and reads 144 bytes");

/* What stands in front of a redirected frame where `stamp_arrivals` is set: CLOCK_MONOTONIC when the program ran. */
struct arrival {
    __u64 monotonic_ns;
};

_Static_assert(sizeof(struct arrival) == 8, "userspace reads the 8 bytes in front of the frame");

/* What a driver said when it was asked for something that its NIC may know of a frame. 0 is for who was not asked. */
enum answer {
    ANSWER_NONE = 0,
    /* Here it is. The value itself may still be zero. */
    ANSWER_KNOWN = 1,
    /* Not of this frame (-ENODATA). */
    ANSWER_ABSENT = 2,
    /* Never (-EOPNOTSUPP), or this kernel has no such question. */
    ANSWER_UNSUPPORTED = 3,
    /* Anything else. */
    ANSWER_FAILED = 4,
    ANSWER_COUNT = 5,
};

/* The layout of what follows. A reader that finds another number reads none of it. */
#define HINTS_VERSION 1

/*
 * What stands in front of a frame that was redirected by the device-bound program where `stamp_arrivals` is set: what the
 * NIC knows of it, and then the same as in front of any other. Each value means something only where its answer is
 * ANSWER_KNOWN. 32 bytes are the most that kernels before 6.3 take for metadata (xdp_metalen_invalid, include/net/xdp.h).
 */
struct hints {
    /* When the NIC received the frame, on the NIC's own clock. Which that is, nobody says here. */
    __u64 nic_ns;
    /* What RSS has made of it, and of which headers: enum xdp_rss_hash_type in include/net/xdp.h. */
    __u32 hash;
    __u32 hash_type;
    /* The VLAN tag that the NIC has taken off: priority and identifier in host byte order, the tag's ethertype in the
     * network's. */
    __u16 vlan_tci;
    __be16 vlan_protocol;
    __u8 time_answer;
    __u8 hash_answer;
    __u8 vlan_answer;
    __u8 version;
    struct arrival arrival;
};

_Static_assert(sizeof(struct hints) == 32, "userspace reads the 32 bytes in front of the frame");
/* No map holds them, so BTF does not say where they lie: it is said here, and tests/layout.rs reads it. */
#define LIES_AT(field, at) _Static_assert(__builtin_offsetof(struct hints, field) == (at), "userspace reads " #field)
LIES_AT(nic_ns, 0);
LIES_AT(hash, 8);
LIES_AT(hash_type, 12);
LIES_AT(vlan_tci, 16);
LIES_AT(vlan_protocol, 18);
LIES_AT(time_answer, 20);
LIES_AT(hash_answer, 21);
LIES_AT(vlan_answer, 22);
LIES_AT(version, 23);
LIES_AT(arrival, 24);
#undef LIES_AT

/* Why a frame went where it went: one for each way out of the program. src/verdict.rs explains each. */
enum verdict {
    VERDICT_REDIRECTED = 0,
    VERDICT_NO_SOCKET = 1,
    VERDICT_OTHER_FLOW = 2,
    VERDICT_NOT_TCP = 3,
    VERDICT_FRAGMENT = 4,
    VERDICT_IPV6_EXTENSION = 5,
    VERDICT_OTHER_ETHERTYPE = 6,
    VERDICT_STACKED_VLAN = 7,
    VERDICT_MALFORMED = 8,
    VERDICT_TRUNCATED = 9,
    VERDICT_COUNT = 10,
};

_Static_assert(VERDICT_COUNT <= VERDICT_COLUMNS, "a verdict without a column would count in the next queue's row");

#endif
