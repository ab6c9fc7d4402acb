#include "segments.h"

__attribute__((aligned(16))) u64 gdt[(GDT_LIMIT + 1) / 8];
__attribute__((aligned(128))) struct tss tss; /* within one page: the CPU may read it by physical address */

u64 segment_descriptor(u8 access, bool long_mode) {
    u64 flags = long_mode ? 0xa : 0xc; /* G and L, or G and D/B */
    return 0x000f00000000ffff | (u64)access << 40 | flags << 52;
}

void segments_init(void) {
    /* Accessed from the start: the CPU then never writes to these descriptors */
    const u8 data = SEG_PRESENT | SEG_NOT_SYSTEM | SEG_WRITABLE | SEG_ACCESSED, code = data | SEG_CODE;
    gdt[KERNEL_CS / 8] = segment_descriptor(code, true);
    gdt[KERNEL_SS / 8] = segment_descriptor(data, false);
    gdt[USER_CS32 / 8] = segment_descriptor(code | SEG_DPL3, false);
    gdt[USER_SS / 8] = segment_descriptor(data | SEG_DPL3, false);
    gdt[USER_CS / 8] = segment_descriptor(code | SEG_DPL3, true);
    gdt[USER_SS_SYSEXIT / 8] = segment_descriptor(data | SEG_DPL3, false);

    u64 base = (u64)&tss;
    gdt[TSS_SELECTOR / 8] = (sizeof tss - 1) | (base & 0xffffff) << 16 | (u64)(SEG_PRESENT | TYPE_TSS) << 40 |
                            (base >> 24 & 0xff) << 56;
    gdt[TSS_SELECTOR / 8 + 1] = base >> 32;
    tss.rsp[0] = (u64)trap_stack_top;
    tss.ist[IST_DOUBLE_FAULT - 1] = (u64)double_fault_stack_top;
    tss.ist[IST_TEST - 1] = (u64)test_ist_stack_top;
    tss.io_map_base = sizeof tss; /* none: in/out at ring 3 follow IOPL alone */

    struct table_register gdtr = {GDT_LIMIT, (u64)gdt};
    __asm__ volatile("lgdt %0\n\t"
                     "pushq %1\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "mov %2, %%ss\n\t"
                     "mov %3, %%ds\n\t"
                     "mov %3, %%es\n\t"
                     "lldt %w3\n\t" /* the LDT of a CPU after reset is one of 64 KiB at address 0 */
                     "ltr %w4"
                     :
                     : "m"(gdtr), "i"(KERNEL_CS), "r"(KERNEL_SS), "r"(0), "r"(TSS_SELECTOR)
                     : "rax", "memory");
}
