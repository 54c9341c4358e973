// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * The program for one interface, which it is bound to when it is loaded (BPF_F_XDP_DEV_BOUND_ONLY, since Linux 6.3): it
 * decides the same as the plain one, sees VLAN tags that the NIC has taken off, and puts in front of a frame what the NIC
 * knows of it. It runs in a driver only; one that knows nothing is asked in vain, and says so.
 */
#define DEVICE_BOUND
#include "program.h"

SEC("xdp")
int wiretick_bound(struct xdp_md *ctx) {
    return run(ctx);
}

SEC("xdp.frags")
int wiretick_bfrags(struct xdp_md *ctx) {
    return run(ctx);
}

/* The kfuncs are for programs with a GPL-compatible licence. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
