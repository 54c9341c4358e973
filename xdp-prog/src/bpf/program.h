// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * The XDP program, whole: what every variant of it does. Frames of the flows in `flows` go to the AF_XDP socket of the
 * queue they came in on, all others go up the kernel's stack as if the program were not there. It changes no byte of any
 * frame, never drops one, and counts each under exactly one verdict.
 *
 * It steers, it does not judge: it checks of a frame what it takes to be sure that the addresses and ports it compares
 * really are this packet's, and nothing more. Checksums, TCP flags and options, and whether the frame is as long as its
 * datagram says, are for userspace, which must look anyway; SYN, FIN and RST therefore arrive there too.
 *
 * It reads headers only. Of a frame in several buffers, `data` to `data_end` is the first one (struct xdp_buff in
 * include/net/xdp.h), which holds them: drivers put at least a few hundred bytes there. Where one does not, the frame is
 * truncated to us, and the kernel gets it.
 */
#ifndef WIRETICK_PROGRAM_H
#define WIRETICK_PROGRAM_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "helpers.h"
#include "layout.h"
#include "sockets.h"

/* linux/if_vlan.h's UAPI part lacks the header itself: 802.1Q-2018, 9.3 to 9.6. */
struct vlan_tag {
    __be16 tci;
    __be16 ethertype;
};
#define VLAN_VID 0x0fff

/* RFC 791, 3.1: more fragments, and the offset in units of eight bytes. Either one set: not a whole datagram. */
#define IPV4_MF_OR_OFFSET 0x3fff
/* RFC 791, 3.1: version 4 with a header of 5 to 15 words. */
#define IPV4_VERSION_IHL_MIN 0x45
#define IPV4_VERSION_IHL_MAX 0x4f

/*
 * The exact 4-tuples that are ours, on their VLAN, each with its feed's queues and what was seen of it: several feeds,
 * of several processes, may have flows and sockets here, and none of them is to get another's frames.
 *
 * What a frame costs (`cargo test -p wiretick-xdp --test verdicts -- --bench --test-threads=1 cost`: the least of 200
 * runs of 20,000 frames, caches warm, the kernel's loop around the program included). On the left an AMD EPYC, Linux 6.18,
 * where the medians were 20 to 30 % higher; on the right a Xeon of 2.8 GHz, before flows had queues and counts of their
 * own, where an empty program took 6 ns.
 *
 *     redirected, IPv4         99 ns      33 ns
 *     redirected, IPv6         96 ns      35 ns
 *     TCP, another flow        73 ns      27 ns
 *     UDP or ARP               40 ns       9 ns
 *
 * Hashing 40 bytes is most of it. What was tried against that on the Xeon, and why it is not here:
 *
 * - A bitmap of local ports, asked before the hash: another flow's frame 11 ns, one of ours 2 ns more. It would spare
 *   16 ns on frames that then take the kernel's stack, for which that is nothing; it would charge those that are waited
 *   for; and userspace would have two maps to keep in step.
 * - A map of its own for IPv4, with a key of 16 bytes: 2 ns less on either path, for two maps that userspace must tell
 *   apart.
 * - An array, indexed by the low bits of the local port and compared in place: 16 ns for a frame of ours and 13 ns for
 *   another's. But two flows may want one slot, so userspace would have to choose ports; and an array's value is
 *   written while it is read, so a frame could meet half of the old key and half of the new one. A hash entry appears
 *   whole.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, FLOWS_MAX);
    __type(key, struct flow_key);
    __type(value, struct flow);
} flows SEC(".maps");

/* Frames by receive queue and verdict, one copy for each CPU: no atomics, no line that moves between cores. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, VERDICT_SLOTS);
    __type(key, __u32);
    __type(value, __u64);
} verdicts SEC(".maps");

/*
 * Whether each redirected frame carries the time at which it came (struct arrival). Written by the loader before the
 * program is verified: where it is 0, the verifier removes the code, and a frame costs what it costs without it.
 */
const volatile __u32 stamp_arrivals SEC(".rodata") = 0;

/* find_tuple()'s answer for a frame that carries a TCP tuple. Any other answer is the frame's verdict. */
#define TUPLE_FOUND (-1)

/* What the NIC has seen: of interest where the program is bound to its device (bound.bpf.c), and nothing otherwise. */
#ifdef DEVICE_BOUND
#include "nic.h"
#else
#define ask_nic(ctx, hints) ((void)(hints))
#define see_stripped_tag(ctx, key, hints) ((void)(hints), TUPLE_FOUND)
#endif

/* The ports, once the place of the TCP header is known. The whole fixed header must be there: a frame that ends inside
 * it is no use to userspace. */
INLINE int find_ports(const struct tcphdr *tcp, const void *end, struct flow_key *key) {
    if (unlikely((const void *)(tcp + 1) > end))
        return VERDICT_TRUNCATED;
    key->remote_port = tcp->source;
    key->local_port = tcp->dest;
    return TUPLE_FOUND;
}

/* The protocol comes first, because it sorts out the most foreign packets at the least cost. */
INLINE int find_tuple_ipv4(const struct iphdr *ip, const void *end, struct flow_key *key) {
    if (unlikely((const void *)(ip + 1) > end))
        return VERDICT_TRUNCATED;
    if (ip->protocol != IPPROTO_TCP)
        return VERDICT_NOT_TCP;
    /* Only the first fragment has ports, and what follows it goes where the kernel reassembles: keep them together. */
    if (unlikely(ip->frag_off & net16(IPV4_MF_OR_OFFSET)))
        return VERDICT_FRAGMENT;
    __u8 version_ihl = *(const __u8 *)ip;
    if (unlikely(version_ihl < IPV4_VERSION_IHL_MIN || version_ihl > IPV4_VERSION_IHL_MAX))
        return VERDICT_MALFORMED;
    __u32 header_bytes = (version_ihl & 0x0f) * 4;
    /* A datagram too short for a TCP header: what stands in the ports' place is Ethernet padding. */
    if (unlikely(net16(ip->tot_len) < header_bytes + sizeof(struct tcphdr)))
        return VERDICT_MALFORMED;
    key->remote[0] = ip->saddr;
    key->local[0] = ip->daddr;
    return find_ports((const void *)ip + header_bytes, end, key);
}

INLINE int find_tuple_ipv6(const struct ipv6hdr *ip, const void *end, struct flow_key *key) {
    if (unlikely((const void *)(ip + 1) > end))
        return VERDICT_TRUNCATED;
    if (ip->nexthdr != IPPROTO_TCP) {
        switch (ip->nexthdr) {
        case IPPROTO_FRAGMENT:
            return VERDICT_FRAGMENT;
        /* The headers that may stand between IPv6 and TCP (RFC 8200, 4.1). Feeds carry none; the kernel knows them. */
        case IPPROTO_HOPOPTS:
        case IPPROTO_ROUTING:
        case IPPROTO_AH:
        case IPPROTO_DSTOPTS:
            return VERDICT_IPV6_EXTENSION;
        default:
            return VERDICT_NOT_TCP;
        }
    }
    if (unlikely(*(const __u8 *)ip >> 4 != 6))
        return VERDICT_MALFORMED;
    /* Also catches 0, which means a jumbogram (RFC 2675): they carry a hop-by-hop header, so this one is none. */
    if (unlikely(net16(ip->payload_len) < sizeof(struct tcphdr)))
        return VERDICT_MALFORMED;
    __builtin_memcpy(key->remote, &ip->saddr, sizeof(key->remote));
    __builtin_memcpy(key->local, &ip->daddr, sizeof(key->local));
    return find_ports((const void *)(ip + 1), end, key);
}

/* Reads the frame's headers into `key`, which comes zeroed. */
INLINE int find_tuple(const struct xdp_md *ctx, struct flow_key *key) {
    const void *end = (const void *)(long)ctx->data_end;
    const struct ethhdr *eth = (const void *)(long)ctx->data;
    if (unlikely((const void *)(eth + 1) > end))
        return VERDICT_TRUNCATED;

    __be16 ethertype = eth->h_proto;
    const void *ip = eth + 1;
    if (ethertype == net16(ETH_P_8021Q)) {
        const struct vlan_tag *tag = ip;
        if (unlikely((const void *)(tag + 1) > end))
            return VERDICT_TRUNCATED;
        key->vlan = tag->tci & net16(VLAN_VID);
        ethertype = tag->ethertype;
        ip = tag + 1;
        if (ethertype == net16(ETH_P_8021Q))
            return VERDICT_STACKED_VLAN;
    }
    key->ethertype = ethertype;

    if (ethertype == net16(ETH_P_IP))
        return find_tuple_ipv4(ip, end, key);
    if (ethertype == net16(ETH_P_IPV6))
        return find_tuple_ipv6(ip, end, key);
    return ethertype == net16(ETH_P_8021AD) ? VERDICT_STACKED_VLAN : VERDICT_OTHER_ETHERTYPE;
}

/*
 * Puts `len` bytes in front of the frame, where AF_XDP hands them on: it copies metadata with the packet (xsk_copy_xdp in
 * net/xdp/xsk.c), and in zero-copy mode the packet is where it was. A driver without room for metadata refuses; the
 * frame then goes without, which is not worth losing it for. Every pointer into the frame is invalid afterwards.
 */
INLINE void *put_in_front(struct xdp_md *ctx, int len) {
    if (bpf_xdp_adjust_meta(ctx, -len))
        return 0;
    void *place = (void *)(long)ctx->data_meta;
    return place + len > (void *)(long)ctx->data ? 0 : place;
}

/* The time of arrival; with it, where the program is bound to a device, what the NIC knows. */
INLINE void stamp(struct xdp_md *ctx, const struct hints *hints) {
#ifdef DEVICE_BOUND
    struct hints *place = put_in_front(ctx, sizeof(*place));
    if (!place)
        return;
    *place = *hints;
    place->version = HINTS_VERSION;
    place->arrival.monotonic_ns = bpf_ktime_get_ns();
#else
    (void)hints;
    struct arrival *place = put_in_front(ctx, sizeof(*place));
    if (place)
        place->monotonic_ns = bpf_ktime_get_ns();
#endif
}

/* Whether the socket on this queue, if there is one, is the flow's feed's. */
INLINE int is_fed(const struct flow *flow, __u32 queue) {
    return queue < QUEUES_MAX && flow->queues[queue / QUEUE_WORD_BITS] >> queue % QUEUE_WORD_BITS & 1;
}

/*
 * Sends the frame to its queue's socket where its flow is ours. It works on the key alone, because stamping makes every
 * pointer into the frame invalid.
 *
 * The fallback action makes a queue without a socket harmless: bpf_redirect_map then returns it, XDP_PASS, and the
 * kernel gets the frame (__bpf_xdp_redirect_map in include/linux/filter.h). A PASS looks like success from outside, so
 * it is told apart here. XDP_REDIRECT says that there is a socket, not that it takes the frame: where it is not bound
 * to this very device and queue, or its ring is full, the frame is lost (xsk_rcv_check, __xsk_rcv in net/xdp/xsk.c).
 */
INLINE int steer(struct xdp_md *ctx, const struct flow_key *key, struct hints *hints) {
    struct flow *flow = bpf_map_lookup_elem(&flows, key);
    if (!flow)
        return VERDICT_OTHER_FLOW;
    __u32 queue = ctx->rx_queue_index;
    flow->frames += 1;
    flow->last_queue = queue;
    if (unlikely(!is_fed(flow, queue))) {
        flow->astray += 1;
        return VERDICT_NO_SOCKET;
    }
    if (stamp_arrivals) {
        ask_nic(ctx, hints);
        stamp(ctx, hints);
    }
    if (unlikely(bpf_redirect_map(&xsks, queue, XDP_PASS) != XDP_REDIRECT)) {
        flow->astray += 1;
        return VERDICT_NO_SOCKET;
    }
    return VERDICT_REDIRECTED;
}

INLINE void count(const struct xdp_md *ctx, int verdict) {
    __u32 queue = ctx->rx_queue_index;
    __u32 row = queue < QUEUE_ROWS ? queue : QUEUE_ROWS - 1;
    __u32 slot = row * VERDICT_COLUMNS + verdict;
    __u64 *frames = bpf_map_lookup_elem(&verdicts, &slot);
    if (likely(frames))
        *frames += 1;
}

/* The whole of every variant: a variant differs by its section, not by what it decides. */
INLINE int run(struct xdp_md *ctx) {
    struct flow_key key = {};
    struct hints hints = {};
    int verdict = find_tuple(ctx, &key);
    if (verdict == TUPLE_FOUND)
        verdict = see_stripped_tag(ctx, &key, &hints);
    if (verdict == TUPLE_FOUND)
        verdict = steer(ctx, &key, &hints);
    count(ctx, verdict);
    return verdict == VERDICT_REDIRECTED ? XDP_REDIRECT : XDP_PASS;
}

#endif
