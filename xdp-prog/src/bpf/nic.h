// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * What the NIC knows of a frame beside its bytes: asked from its driver by the metadata kfuncs (include/net/xdp.h; time and
 * hash since Linux 6.3, the VLAN tag since 6.8). Only a program that is bound to a device may ask, and only in its driver:
 * the kernel puts the driver's own functions in the place of these when it loads the program.
 */
#ifndef WIRETICK_NIC_H
#define WIRETICK_NIC_H

#include <linux/errno.h>

#include "helpers.h"
#include "layout.h"

/* In the kernel, the numbers of the hash types; here, that it is an enum is all that matters. */
enum xdp_rss_hash_type {
    XDP_RSS_HASH_TYPE_NONE = 0,
};

extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *timestamp) KFUNC;
extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, __u32 *hash, enum xdp_rss_hash_type *rss_type) KFUNC;
extern int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx, __be16 *vlan_proto, __u16 *vlan_tci) KFUNC;

INLINE __u8 answer(int error) {
    switch (error) {
    case 0:
        return ANSWER_KNOWN;
    case -ENODATA:
        return ANSWER_ABSENT;
    case -EOPNOTSUPP:
        return ANSWER_UNSUPPORTED;
    default:
        return ANSWER_FAILED;
    }
}

/* Time and hash. The tag has been asked for by then. */
INLINE void ask_nic(struct xdp_md *ctx, struct hints *hints) {
    hints->time_answer = ANSWER_UNSUPPORTED;
    if (bpf_xdp_metadata_rx_timestamp)
        hints->time_answer = answer(bpf_xdp_metadata_rx_timestamp(ctx, &hints->nic_ns));
    hints->hash_answer = ANSWER_UNSUPPORTED;
    if (bpf_xdp_metadata_rx_hash) {
        enum xdp_rss_hash_type type = XDP_RSS_HASH_TYPE_NONE;
        hints->hash_answer = answer(bpf_xdp_metadata_rx_hash(ctx, &hints->hash, &type));
        hints->hash_type = type;
    }
}

/*
 * A tag that the NIC has taken off the frame belongs into the key as much as one that is still in it: a flow on a VLAN is
 * found either way, and one without is not mistaken for it. A second tag makes two, wherever it is.
 */
INLINE int see_stripped_tag(struct xdp_md *ctx, struct flow_key *key, struct hints *hints) {
    hints->vlan_answer = ANSWER_UNSUPPORTED;
    if (!bpf_xdp_metadata_rx_vlan_tag)
        return TUPLE_FOUND;
    hints->vlan_answer = answer(bpf_xdp_metadata_rx_vlan_tag(ctx, &hints->vlan_protocol, &hints->vlan_tci));
    if (hints->vlan_answer != ANSWER_KNOWN)
        return TUPLE_FOUND;
    if (hints->vlan_protocol != net16(ETH_P_8021Q) || key->vlan)
        return VERDICT_STACKED_VLAN;
    key->vlan = net16(hints->vlan_tci) & net16(VLAN_VID);
    return TUPLE_FOUND;
}

#endif
