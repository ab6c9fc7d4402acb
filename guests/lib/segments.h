/* GDT, TSS and the selectors that SYSCALL/SYSRET and SYSENTER/SYSEXIT dictate the order of. */
#pragma once
#include "x86.h"

enum selector {
    KERNEL_CS = 0x08,
    KERNEL_SS = 0x10,
    USER_CS32 = 0x18 | 3,    /* SYSRET to compatibility mode: STAR[63:48] */
    USER_SS = 0x20 | 3,      /* SYSRET: STAR[63:48] + 8 */
    USER_CS = 0x28 | 3,      /* SYSRET to 64 bits: + 16; SYSEXIT: SYSENTER_CS + 32 */
    USER_SS_SYSEXIT = 0x30 | 3,
    TSS_SELECTOR = 0x38,     /* two slots */
    TEST_SELECTOR = 0x48,    /* two slots that a test may fill as it likes */
    GDT_LIMIT = 0x57,
};

enum descriptor_bits {
    SEG_ACCESSED = 1,
    SEG_WRITABLE = 2,        /* data; readable for code */
    SEG_CODE = 8,
    SEG_NOT_SYSTEM = 0x10,
    SEG_DPL3 = 0x60,
    SEG_PRESENT = 0x80,
    TYPE_LDT = 2,
    TYPE_TSS = 9,
};

/* IST slots */
enum { IST_NONE = 0, IST_DOUBLE_FAULT = 1, IST_TEST = 2 };

struct __attribute__((packed)) tss {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3;
    u16 io_map_base;
};

extern struct tss tss;
extern u64 gdt[(GDT_LIMIT + 1) / 8];
extern u8 trap_stack_top[], double_fault_stack_top[], test_ist_stack[], test_ist_stack_top[];

/* A flat descriptor: access byte, then G/L/D from `long_mode` */
u64 segment_descriptor(u8 access, bool long_mode);
void segments_init(void);
