// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * What AF_XDP costs by itself: UDP over IPv4 to one port goes to the socket of its queue, everything else to the kernel.
 * A measurement loads it in place of the real program (`bench floor`); nothing else does. It looks no flow up and counts
 * nothing, so that what is measured beside it is all that wiretick adds.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include "helpers.h"
#include "layout.h"
#include "sockets.h"

/* The port, in host byte order. Written by the loader. */
const volatile __u32 floor_port SEC(".rodata") = 0;

/* A header without options, all of it in the frame: who measures sends no other. */
SEC("xdp")
int wiretick_floor(struct xdp_md *ctx) {
    const void *end = (const void *)(long)ctx->data_end;
    const struct ethhdr *eth = (const void *)(long)ctx->data;
    const struct iphdr *ip = (const void *)(eth + 1);
    const struct udphdr *udp = (const void *)(ip + 1);
    if ((const void *)(udp + 1) > end)
        return XDP_PASS;
    if (eth->h_proto != net16(ETH_P_IP) || ip->protocol != IPPROTO_UDP)
        return XDP_PASS;
    if (udp->dest != net16(floor_port))
        return XDP_PASS;
    return (int)bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
