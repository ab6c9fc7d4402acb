#include "specimen.h"

    specimen icebp, "", ".byte 0xf1"

/* The stepped code. Every place where a #DB is due has a label; singlestep.c has the same list. */
    .macro due n
    .global step_\n
step_\n:
    .endm

    .text
    .global k_stepped
k_stepped:
    lea step_buffer(%rip), %rdi
    lea step_buffer + 8(%rip), %rsi
    mov $3, %ecx
    mov %ss, %edx
    cld
    pushfq
    orl $0x100, (%rsp)
    popfq
    nop                                     /* popf itself is not stepped: TF was clear when it began */
due 1
    xor %eax, %eax
due 2
    jz 1f
    ud2
1:
due 3
    call step_callee
due 6
    mov %edx, %ss                           /* holds the #DB off until after the next instruction */
    nop
due 7
    pushfq
due 8
    pop %rax
due 9
    in $0x21, %al
due 10
2:  rep movsb                               /* a #DB after each of its three rounds */
due 11
    int $0x90                               /* TF is clear in the handler, back with iret */
    nop
due 12
    pushfq
due 13
    andl $~0x100, (%rsp)
due 14
    popfq                                   /* is stepped: TF was set when it began */
due 15
    nop
    ret
step_callee:
due 4
    nop
due 5
    ret
    .global step_rep
    .set step_rep, 2b

    .section .user.text, "ax"
    .global u_stepped
u_stepped:
    nop
    mov $5, %ecx
1:  dec %ecx
    jnz 1b
    int $0x80
    .global u_stepped_end
u_stepped_end:

    .bss
step_buffer:
    .skip 16
