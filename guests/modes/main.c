/* Has been in every mode that code of a boot loader runs in: 32-bit, 16-bit protected, real, 32-bit, 64-bit (entry.S). */
#include "check.h"
#include "kernel.h"

extern volatile u32 modes_sum;

void kmain(u32 magic, u32 information) {
    (void)information;
    u32 sum = modes_sum;    /* while the boot page tables map the first MiB */
    kernel_init("modes", magic);
    check_eq("real mode has added up 5 4 3 2 1", sum, 15);
    verdict();
}
