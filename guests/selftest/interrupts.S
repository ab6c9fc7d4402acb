/* Ways of letting a pending interrupt in. Each label is where the interrupt must have come: its saved RIP. */
    .text
    .macro place name
    .global \name
\name:
    .endm

place sti_then_nop
    sti
    nop                                     /* still in sti's shadow */
place sti_shadow_ends
    nop
    cli
    ret

place sti_then_cli                          /* the shadow covers cli: no interrupt at all */
    sti
    cli
    nop
    ret

place popf_enables
    pushfq
    orq $0x200, (%rsp)
    popfq
place popf_enabled
    nop                                     /* popf casts no shadow */
    cli
    ret

place iret_enables
    mov %rsp, %rdx
    mov %ss, %eax
    push %rax
    push %rdx
    pushfq
    orq $0x200, (%rsp)
    mov %cs, %eax
    push %rax
    lea iret_enabled(%rip), %rax
    push %rax
    iretq
place iret_enabled
    nop
    cli
    ret

place halt_enables
    sti
    hlt
place halt_ended
    cli
    ret

/* u64 spin_with_registers(volatile u64 *counter, u64 target): fills every register with a multiple of a pattern, waits
 * until *counter >= target, and returns 0 if all of them, and DF, are as they were. */
    .macro spin_with_registers
    mov $0x0101010101010101, %rax
    lea (%rax,%rax), %rbx
    lea (%rbx,%rax), %rcx
    lea (%rcx,%rax), %rdx
    lea (%rdx,%rax), %rbp
    lea (%rbp,%rax), %r8
    lea (%r8,%rax), %r9
    lea (%r9,%rax), %r10
    lea (%r10,%rax), %r11
    lea (%r11,%rax), %r12
    lea (%r12,%rax), %r13
    lea (%r13,%rax), %r14
    lea (%r14,%rax), %r15
    std
1:  cmp %rsi, (%rdi)
    jb 1b
    pushfq
    cld
    .irp register, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdx, rcx, rbx, rax
    push %\register
    .endr
    mov $0x0101010101010101, %rdx
    mov %rdx, %rcx
    xor %eax, %eax
    xor %ebx, %ebx
2:  mov (%rsp,%rbx,8), %rsi
    xor %rcx, %rsi
    or %rsi, %rax
    add %rdx, %rcx
    inc %ebx
    cmp $13, %ebx
    jb 2b
    add $13 * 8, %rsp
    pop %rsi
    not %esi
    and $0x400, %esi                        /* DF that is not set any more */
    or %rsi, %rax
    .endm

    .global spin_in_ring_0
spin_in_ring_0:
    .irp register, rbx, rbp, r12, r13, r14, r15
    push %\register
    .endr
    sti
    spin_with_registers
    cli
    .irp register, r15, r14, r13, r12, rbp, rbx
    pop %\register
    .endr
    ret

    .section .user.text, "ax"
    .global spin_in_ring_3
spin_in_ring_3:                             /* (counter): its target is the word behind it */
    mov 8(%rdi), %rsi
    spin_with_registers
    int $0x80

    .section .note.GNU-stack, "", @progbits
