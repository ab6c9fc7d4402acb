/* Calls, jumps and returns of every form. Each returns a number that only the right way there gives. */
    .text
    .macro routine name
    .balign 16
    .global \name
\name:
    .endm
    .macro target name, value
\name:
    mov $\value, %eax
    ret
    .endm

target one, 1
target two, 2
target three, 3
target four, 4

    .section .rodata
    .balign 8
targets:
    .quad one, two, three, four
jump_targets:
    .quad 1f, 2f, 3f, 4f
far_pointer:
    .quad far_target
    .word 0x08
    .text

routine call_register
    lea two(%rip), %r11
    call *%r11
    ret
routine call_memory_rip
    call *(targets + 16)(%rip)
    ret
routine call_memory_base
    lea targets(%rip), %rdx
    call *24(%rdx)
    ret
routine call_table                          /* (index) */
    call *targets(,%rdi,8)
    ret
routine call_stack_slot                     /* the target is read before the return address is pushed */
    pushq $three
    call *(%rsp)
    pop %rdx
    ret
routine call_rsp_register
    lea four(%rip), %rdx
    mov %rsp, %rcx
    call *%rdx
    sub %rsp, %rcx                          /* 0: the stack is as it was */
    add %ecx, %eax
    ret
routine jump_register
    lea two(%rip), %rax
    jmp *%rax
routine jump_memory
    jmp *(targets + 8)(%rip)
routine jump_table                          /* (index) */
    jmp *jump_targets(,%rdi,8)
1:  mov $11, %eax
    ret
2:  mov $12, %eax
    ret
3:  mov $13, %eax
    ret
4:  mov $14, %eax
    ret
routine jump_by_return
    lea three(%rip), %rax
    push %rax
    ret
routine return_and_pop                      /* ret imm16 takes its caller's two words along */
    mov %rsp, %rcx
    push $5
    push $6
    call 1f
    sub %rsp, %rcx
    add %ecx, %eax
    ret
1:  mov 8(%rsp), %rax                       /* 6 */
    add 16(%rsp), %rax                      /* 5 */
    ret $16
routine changed_return_address
    call 1f
    mov $100, %eax
    ret
2:  mov $200, %eax
    ret
1:  lea 2b(%rip), %rdx
    mov %rdx, (%rsp)
    ret
routine call_pop                            /* a call that nothing returns from: where am I */
    call 1f
1:  pop %rax
    lea 1b(%rip), %rdx
    sub %rdx, %rax
    ret

routine far_return
    mov %cs, %eax
    push %rax
    lea 1f(%rip), %rax
    push %rax
    lretq
1:  mov $31, %eax
    ret
routine far_jump
    rex.W ljmp *far_pointer(%rip)
far_target:
    mov $32, %eax
    ret
routine far_call
    lea 1f(%rip), %rax
    push $8
    push %rax
    rex.W lcall *(%rsp)
    add $16, %rsp
    ret
1:  mov $33, %eax
    add 8(%rsp), %eax                       /* CS that the call pushed: 8 */
    lretq
routine interrupt_return
    mov %rsp, %rdx
    mov %ss, %eax
    push %rax
    push %rdx
    pushfq
    mov %cs, %eax
    push %rax
    lea 1f(%rip), %rax
    push %rax
    iretq
1:  mov $34, %eax
    ret

/* recursion 1000 deep: the sum of 1 to n */
routine recursive_sum                       /* (n) */
    test %rdi, %rdi
    jz 1f
    push %rdi
    dec %rdi
    call recursive_sum
    pop %rdi
    add %rdi, %rax
    ret
1:  xor %eax, %eax
    ret

routine loops
    xor %eax, %eax
    mov $10, %ecx
1:  inc %eax
    loop 1b
    mov $10, %ecx
2:  inc %eax
    cmp $15, %eax
    loopne 2b
    mov $10, %ecx
3:  inc %eax
    test $0x10, %al                         /* 16 to 31 have the bit */
    loopne 3b                               /* one round: the bit is set, but ZF is clear, so ten rounds until 25 */
    jrcxz 4f
    ret
4:  mov $0x100000000, %rcx
    jrcxz 5f
    addr32 jrcxz 6f                         /* jecxz */
    ret
5:  mov $-1, %eax
    ret
6:  add $100, %eax
    ret

routine frames                              /* enter and leave */
    mov %rsp, %rdx
    mov %rbp, %rcx
    enter $32, $0
    movq $7, -8(%rbp)
    movq $8, -32(%rbp)
    mov -8(%rbp), %rax
    add (%rsp), %rax
    leave
    sub %rsp, %rdx
    sub %rbp, %rcx
    add %rdx, %rax
    add %rcx, %rax
    ret

routine stack_oddities                      /* push rsp, pop rsp, pop (rsp), push (rsp): rax 0 if right */
    mov %rsp, %rdx
    push %rsp
    pop %rax
    sub %rdx, %rax                          /* push stores rsp as it was */
    push $0x55
    push (%rsp)
    pop %rcx
    sub $0x55, %rcx
    or %rcx, %rax
    push $0x66
    pop (%rsp)                              /* the address is taken after rsp has moved: over the 0x55 */
    pop %rcx
    sub $0x66, %rcx
    or %rcx, %rax
    mov %rsp, %rcx
    push %rdx
    pop %rsp
    sub %rsp, %rcx
    or %rcx, %rax
    pushw $0x1234
    mov %rdx, %rcx
    sub %rsp, %rcx
    sub $2, %rcx
    or %rcx, %rax
    mov %rdx, %rsp
    ret

/* Each condition, taken and not: (flags) in rdi are popped first; the result has bit n set if condition n held. */
routine conditions
    xor %eax, %eax
    .macro condition cc, n
    push %rdi
    popfq
    j\cc 1f
    jmp 2f
1:  or $1 << \n, %eax
2:  push %rdi
    popfq
    set\cc %dl
    movzbl %dl, %edx
    shl $16 + \n, %edx
    or %edx, %eax
    .endm
    condition o, 0
    condition no, 1
    condition b, 2
    condition ae, 3
    condition e, 4
    condition ne, 5
    condition be, 6
    condition a, 7
    condition s, 8
    condition ns, 9
    condition p, 10
    condition np, 11
    condition l, 12
    condition ge, 13
    condition le, 14
    condition g, 15
    ret

    .section .note.GNU-stack, "", @progbits
