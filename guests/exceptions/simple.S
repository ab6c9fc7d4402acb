#include "specimen.h"

    specimen div_zero, "xor %ecx, %ecx; xor %edx, %edx; mov $1, %eax", "div %ecx"
    specimen div_zero64, "xor %ecx, %ecx; xor %edx, %edx; mov $1, %eax", "div %rcx"
    specimen idiv_overflow, "mov $0x80000000, %eax; cltd; mov $-1, %ecx", "idiv %ecx"
    specimen div_overflow64, "mov $2, %edx; xor %eax, %eax; mov $2, %ecx", "div %rcx"
    specimen div_overflow8, "mov $0x1000, %eax; mov $1, %ecx", "div %cl"

    specimen int3, "", "int3"
    specimen int_3, "", ".byte 0xcd, 0x03"

    specimen ud2, "", "ud2"
    specimen into, "", ".byte 0xce"
    specimen push_es, "", ".byte 0x06"
    specimen lock_nop, "", ".byte 0xf0, 0x90"
    specimen lock_register, "", ".byte 0xf0, 0x01, 0xc1"         /* lock add %eax, %ecx */
    specimen lock_load, "", ".byte 0xf0, 0x8b, 0x04, 0x24"       /* lock mov (%rsp), %eax */
    specimen mov_to_cs, "mov $8, %eax", ".byte 0x8e, 0xc8"
    kernel_specimen mov_to_cr1, "xor %eax, %eax", ".byte 0x0f, 0x22, 0xc8"

    specimen x87, "", "fld1"
    specimen sse, "", "movaps %xmm0, %xmm1"
    specimen fwait, "", "fwait"

    /* 1 / 0 with zero-divide unmasked: the x87 reports it at the next waiting instruction */
    specimen x87_divide, "fninit; push $0x37b; fldcw (%rsp); pop %rax; fld1; fldz; fdivrp", "fwait"
    /* what may follow: control instructions that do not wait, and reset the unit */
    specimen x87_reset, "fnclex", "fninit"
