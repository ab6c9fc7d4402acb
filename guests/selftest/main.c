/* A tour of what a small kernel does with its CPU and its devices. */
#include "selftest.h"

#include "check.h"
#include "kernel.h"

void kmain(u32 magic, u32 information) {
    (void)information;
    kernel_init("selftest", magic);
    test_interrupts();
    test_registers();
    test_user_mode();
    test_syscalls();
    test_segment_bases();
    test_strings();
    test_transfers();
    test_arithmetic();
    test_floating_point();
    test_devices();
    verdict();
}
