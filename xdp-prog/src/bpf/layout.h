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

/* What stands in front of a redirected frame where `stamp_arrivals` is set: CLOCK_MONOTONIC when the program ran. */
struct arrival {
    __u64 monotonic_ns;
};

_Static_assert(sizeof(struct arrival) == 8, "userspace reads the 8 bytes in front of the frame");

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
