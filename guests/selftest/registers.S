/* Instructions that read or set system state without faulting, in whichever ring: struct machine_view is their order. */
    .macro look
    pushfq
    pop %rax
    mov %rax, 0(%rdi)
    mov %cs, %eax
    mov %rax, 8(%rdi)
    mov %ss, %eax
    mov %rax, 16(%rdi)
    sldt %eax
    mov %rax, 24(%rdi)
    str %eax
    mov %rax, 32(%rdi)
    smsw %rax
    mov %rax, 40(%rdi)
    sgdt 48(%rdi)
    sidt 64(%rdi)
    /* lar, lsl, verr, verw of the selector in %esi; bit 63 is ZF: the selector may be looked at */
    mov $0xffffffff, %eax
    lar %esi, %eax
    setz %cl
    movzbl %cl, %ecx
    shl $63, %rcx
    or %rcx, %rax
    mov %rax, 80(%rdi)
    mov $0xffffffff, %eax
    lsl %esi, %eax
    setz %cl
    movzbl %cl, %ecx
    shl $63, %rcx
    or %rcx, %rax
    mov %rax, 88(%rdi)
    xor %eax, %eax
    verr %si
    setz %al
    mov %rax, 96(%rdi)
    xor %eax, %eax
    verw %si
    setz %al
    mov %rax, 104(%rdi)
    .endm

    .text
    .global look_in_ring_0
look_in_ring_0:                             /* (struct machine_view *, selector) */
    look
    ret

    .section .user.text, "ax"
    .global look_in_ring_3
look_in_ring_3:                             /* (struct machine_view *): the selector is its first word */
    mov (%rdi), %rsi
    look
    int $0x80

    .section .note.GNU-stack, "", @progbits
