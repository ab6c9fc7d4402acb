/* One stub per vector, the common entry and exit, and the assembly half of catch_trap(). */

    .text
    .balign 16
    .global isr_stubs
isr_stubs:                                  /* 256 stubs of 16 bytes */
    .set vector, 0
    .rept 256
    .balign 16
    /* #DF #TS #NP #SS #GP #PF #AC push an error code (and #CP, which nothing here can raise) */
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    pushq $0
    .endif
    pushq $vector
    jmp isr_common
    .set vector, vector + 1
    .endr

    .balign 16
    .global isr_common
isr_common:
    push %rax
    push %rbx
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld                                     /* the ABI wants DF clear; interrupts leave it as it was */
    mov %rsp, %rdi
    call trap_dispatch
    .global isr_return
isr_return:
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rbp
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rbx
    pop %rax
    add $16, %rsp
    iretq

/* int catch_call(u64 *saved_rsp, void (*fn)(u64), u64 arg) */
    .global catch_call
catch_call:
    pushfq
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rdx, %rdi
    sub $8, %rsp                            /* alignment, and a wild `pop` in fn hits nothing of ours */
    cld
    call *%rsi
    add $8, %rsp
    xor %eax, %eax
    jmp 1f
/* trap_dispatch comes here with RSP as saved above */
    .global catch_resume
catch_resume:
    mov $1, %eax
1:  pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    popfq
    ret

/* void enter_user(u64 rip, u64 rsp, u64 arg, u64 rflags): leaves for ring 3; comes back only through a trap. */
    .global enter_user
enter_user:
    pushq $0x23                             /* USER_SS */
    push %rsi
    push %rcx
    pushq $0x2b                             /* USER_CS */
    push %rdi
    mov %rdx, %rdi
    xor %eax, %eax
    xor %ebx, %ebx
    xor %ecx, %ecx
    xor %edx, %edx
    xor %esi, %esi
    xor %ebp, %ebp
    xor %r8d, %r8d
    xor %r9d, %r9d
    xor %r10d, %r10d
    xor %r11d, %r11d
    xor %r12d, %r12d
    xor %r13d, %r13d
    xor %r14d, %r14d
    xor %r15d, %r15d
    iretq

    .bss
    .balign 4096
    .skip 8192
    .global trap_stack_top
trap_stack_top:
    .skip 8192
    .global double_fault_stack_top
double_fault_stack_top:
    .global test_ist_stack
test_ist_stack:
    .skip 8192
    .global test_ist_stack_top
test_ist_stack_top:

    .section .note.GNU-stack, "", @progbits
