// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * Where redirected frames go: the map that the programs here have in common. Each object that includes this has one of its
 * own, under the name that src/lib.rs gives it (XSKS).
 */
#ifndef WIRETICK_SOCKETS_H
#define WIRETICK_SOCKETS_H

#include "helpers.h"
#include "layout.h"

/* The AF_XDP socket of each receive queue. */
struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, QUEUES_MAX);
    __type(key, __u32);
    __type(value, __u32);
} xsks SEC(".maps");

#endif
