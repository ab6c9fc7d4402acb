/* Stacks to look at from outside: with and without frame pointers, across an exception. */
#include "frames.h"

#include "check.h"
#include "kernel.h"
#include "traps.h"

static volatile u64 visits;

__attribute__((noinline)) u64 deepest(u64 n) {
    visits++;
    return n * 2;
}

static bool on_breakpoint(struct frame *frame) {
    visits += omitted(frame->rbx & 1);
    return true;
}

void kmain(u32 magic, u32 information) {
    (void)information;
    kernel_init("frames", magic);
    section("frames");
    check_eq("without a frame pointer", omitted(5), 11);
    check_eq("with locals", omitted_with_locals(4), 2 * (4 + 4) + 1 + 7);
    check_eq("of varying size", omitted_of_varying_size(4), 2 * (4 + 4) + 1 + 7 + 8);
    check_eq("aligned", omitted_and_aligned(4), 2 * (4 + 4) + 1 + 7 + 8 + 5 + 6);
    set_trap_handler(VEC_BP, on_breakpoint);
    check_eq("across an exception", omitted_and_trapping(7), 7 + 8);
    set_trap_handler(VEC_BP, 0);
    check("each was deepest once", visits > 4);
    verdict();
}
