/* Compiled with -fomit-frame-pointer: only call frame information says where the callers of these are. */
#include "frames.h"

static void fill(volatile u8 *bytes, u64 size, u64 n) {
    for (u64 i = 0; i < size; i++)
        bytes[i] = (u8)(n + i);
}

__attribute__((noinline)) u64 omitted(u64 n) { return deepest(n) + 1; }

__attribute__((noinline)) u64 omitted_with_locals(u64 n) {
    volatile u8 bytes[200];
    fill(bytes, sizeof bytes, n);
    return omitted(n + bytes[0]) + bytes[3];
}

/* Its CFA follows from RBP, which it saves because it cannot know RSP. */
__attribute__((noinline)) u64 omitted_of_varying_size(u64 n) {
    volatile u8 bytes[n + 17];
    fill(bytes, sizeof bytes, n);
    return omitted_with_locals(n) + bytes[n];
}

/* Its CFA is read from memory: a DWARF expression. */
__attribute__((noinline)) u64 omitted_and_aligned(u64 n) {
    volatile u8 __attribute__((aligned(64))) bytes[128];
    volatile u8 more[n + 5];
    fill(bytes, sizeof bytes, n);
    fill(more, sizeof more, n);
    return omitted_of_varying_size(n) + bytes[1] + more[2];
}

__attribute__((noinline)) u64 omitted_and_trapping(u64 n) {
    volatile u8 bytes[40];
    fill(bytes, sizeof bytes, n);
    __asm__ volatile("int3" ::: "memory");
    return n + bytes[1];
}
