/* A specimen is a small piece of assembly that is expected to trap at one marked instruction:
 *     id_at     the instruction itself (what a fault saves as RIP)
 *     id_after  the one after it (what a trap saves)
 * k_ specimens run in ring 0 and end in ret, u_ specimens run in ring 3 and end in int $0x80. */
#pragma once

#ifdef __ASSEMBLER__

    .macro kernel_specimen id, setup, instruction
    .section .text
    .global k_\id, k_\id\()_at, k_\id\()_after
    .balign 16
k_\id:
    \setup
k_\id\()_at:
    \instruction
k_\id\()_after:
    ret
    .endm

    .macro user_specimen id, setup, instruction
    .section .user.text, "ax"
    .global u_\id, u_\id\()_at, u_\id\()_after
    .balign 16
u_\id:
    \setup
u_\id\()_at:
    \instruction
u_\id\()_after:
    int $0x80
    .endm

    .macro specimen id, setup, instruction
    kernel_specimen \id, "\setup", "\instruction"
    user_specimen \id, "\setup", "\instruction"
    .endm

#else
#include "traps.h"
#include "user.h"

/* One check: running the specimen raises exactly this, with RIP at (or, for traps, after) its marked instruction. */
#define KERNEL_RAISES(text, id, arg, vector, error, where)         \
    do {                                                           \
        extern void k_##id(u64);                                   \
        extern const u8 k_##id##_##where[];                        \
        expect_trap(text, k_##id, arg, vector, error, k_##id##_##where); \
    } while (0)
#define USER_RAISES(text, id, arg, vector, error, where)           \
    do {                                                           \
        extern const u8 u_##id[], u_##id##_##where[];              \
        expect_user_trap(text, u_##id, arg, vector, error, u_##id##_##where); \
    } while (0)
#define BOTH_RAISE(text, id, arg, vector, error, where)                      \
    do {                                                                     \
        KERNEL_RAISES(text " in ring 0", id, arg, vector, error, where);     \
        USER_RAISES(text " in ring 3", id, arg, vector, error, where);       \
    } while (0)
#define KERNEL_PAGE_FAULT(text, id, arg, error, cr2)                         \
    do {                                                                     \
        extern void k_##id(u64);                                             \
        extern const u8 k_##id##_at[];                                       \
        expect_page_fault(text, k_##id, arg, error, k_##id##_at, cr2);       \
    } while (0)
#define USER_PAGE_FAULT(text, id, arg, error, cr2)                           \
    do {                                                                     \
        extern const u8 u_##id[], u_##id##_at[];                             \
        expect_user_page_fault(text, u_##id, arg, error, u_##id##_at, cr2);  \
    } while (0)
#define KERNEL_RUNS(text, id, arg)                                           \
    do {                                                                     \
        extern void k_##id(u64);                                             \
        expect_no_trap(text, k_##id, arg);                                   \
    } while (0)
/* It gets to its `int $0x80`. */
#define USER_RUNS(text, id, arg)                                             \
    do {                                                                     \
        extern const u8 u_##id[];                                            \
        expect_user_trap(text, u_##id, arg, VEC_USER_EXIT, 0, NULL);         \
    } while (0)
#endif
