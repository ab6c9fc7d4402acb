#include "specimen.h"

    .text
    .balign 16
    .global k_two_adds, k_two_adds_second, k_two_adds_end
k_two_adds:
    addl $1, (%rdi)
k_two_adds_second:
    addl $2, (%rdi)
k_two_adds_end:
    ret

    specimen store1, "", "movb $1, (%rdi)"
    specimen store8, "", "movq $1, (%rdi)"
    specimen load8, "", "mov (%rdi), %rax"
    kernel_specimen write_dr0, "", "mov %rdi, %dr0"
    kernel_specimen read_dr4, "", ".byte 0x0f, 0x21, 0xe0"       /* mov %dr4, %rax, which as knows as db4 */
    kernel_specimen read_dr5, "", ".byte 0x0f, 0x21, 0xe8"
