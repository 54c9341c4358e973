// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * The few things a BPF program needs that the kernel's UAPI headers do not declare: section names, map definitions that
 * carry BTF, and the helper functions. Written here, and not taken from libbpf's bpf_helpers.h, so that clang and the
 * kernel's UAPI headers are all it takes to build the program.
 */
#ifndef WIRETICK_HELPERS_H
#define WIRETICK_HELPERS_H

#include <linux/bpf.h>

/* Puts a program, a map or the licence in the ELF section where loaders look for it. */
#define SEC(name) __attribute__((section(name), used))

/* The fields of a map definition. The loader reads them from BTF: a number is the length of an array that is pointed
 * to, a type is the type that is pointed to (libbpf's parse_btf_map_def; aya follows it). */
#define __uint(name, val) int (*name)[val]
#define __type(name, val) __typeof__(val) *name

/* A program is one function: no call is paid for, and the verifier sees each variant as a whole. */
#define INLINE static __attribute__((always_inline)) inline

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* A function of the kernel's own (a kfunc), found by its name in the kernel's BTF when the program is loaded; its address is
 * 0 where the kernel has none of that name. */
#define KFUNC __attribute__((section(".ksyms"), weak))

/* Network byte order for constants, folded at compile time. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define net16(x) ((__be16)__builtin_bswap16(x))
#else
#define net16(x) ((__be16)(x))
#endif

/* Helper functions: their number is their address, see __BPF_FUNC_MAPPER in linux/bpf.h. */
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static long (*const bpf_xdp_adjust_meta)(struct xdp_md *ctx, int delta) = (void *)BPF_FUNC_xdp_adjust_meta;
static long (*const bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;

#endif
