#include "specimen.h"

    specimen load_ds, "", "mov %edi, %ds"
    specimen load_ss, "", "mov %edi, %ss"
    specimen load_fs, "", "mov %edi, %fs"
    kernel_specimen ltr, "", "ltr %di"
    kernel_specimen lldt, "", "lldt %di"
    /* far return to the selector in %edi: the return address stays on the stack, catch_trap() drops it */
    specimen far_return, "push %rdi; lea 1f(%rip), %rax; push %rax; 1:", "lretq"

    /* `int n` takes its vector from the instruction: 0x90 is a gate that the tests rewrite */
    specimen int_90, "", "int $0x90"
    user_specimen int_20, "", "int $0x20"
    user_specimen int_0e, "", "int $0x0e"
    specimen int_ff, "", "int $0xff"

    /* iretq with a frame made of %edi as CS and the caller's everything */
    kernel_specimen iret_to_cs, "mov %ss, %eax; push %rax; push %rsp; pushfq; push %rdi; lea 1f(%rip), %rax; push %rax; 1:", "iretq"
    kernel_specimen iret_nt, "mov %ss, %eax; push %rax; push %rsp; pushfq; orl $0x4000, (%rsp); popfq; pushfq; mov %cs, %eax; push %rax; lea 1f(%rip), %rax; push %rax; 1:", "iretq"
    /* to ring 3 with the stack selector in %edi */
    kernel_specimen iret_to_ss, "push %rdi; push %rsp; pushfq; push $0x2b; push $0x400000", "iretq"
    kernel_specimen iret_noncanonical, "mov %ss, %eax; push %rax; push %rsp; pushfq; mov %cs, %eax; push %rax; push %rdi", "iretq"
