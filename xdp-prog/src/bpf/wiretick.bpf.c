// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * The plain program, for any interface. A variant differs by its section, not by what it decides (program.h).
 */
#include "program.h"

/* For frames that lie in one piece: without `frags` in the section name, drivers refuse the program on an MTU that
 * takes more than one buffer (veth_xdp_set in drivers/net/veth.c, and its like). */
SEC("xdp")
int wiretick(struct xdp_md *ctx) {
    return run(ctx);
}

/* For frames that may lie in several (BPF_F_XDP_HAS_FRAGS, since Linux 5.18). It decides the same from the same
 * instructions; what differs is what drivers do to give it frames. */
SEC("xdp.frags")
int wiretick_frags(struct xdp_md *ctx) {
    return run(ctx);
}

/* MIT is GPL-compatible, and the kernel knows it by this string (include/linux/license.h). Helpers that are reserved
 * for GPL programs ask for it. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
