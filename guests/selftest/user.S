/* Ring-3 programs, and the kernel's entries for syscall and sysenter. */
    .section .user.text, "ax"
    .macro program name
    .balign 16
    .global \name
\name:
    .endm

program user_ring                           /* rax: CS, rbx: the argument, as it came */
    mov %cs, %eax
    mov %rdi, %rbx
    int $0x80

program user_stack                          /* pushes and calls on its own stack; rax: 6 */
    push $1
    push $2
    call 1f
    pop %rbx
    pop %rcx
    add %rbx, %rax
    add %rcx, %rax
    int $0x80
1:  mov $3, %eax
    ret

/* rdi: a number to be counted up by the kernel; r8-r15, rbx, rbp must come back as they were: rax is then the number */
program user_syscalls
    mov $0x1111, %ebx
    mov $0x2222, %r12d
    mov $0x3333, %r15d
    mov $10, %r14d
1:
user_syscall_at:
    syscall
user_after_syscall:
    mov %rax, %rdi
    dec %r14d
    jnz 1b
    add %rbx, %rax
    add %r12, %rax
    add %r15, %rax
    int $0x80
    .global user_syscall_at, user_after_syscall

program user_syscall_state                  /* what SYSRET gives back: rbx CS, rdx SS, rsi flags */
    stc
    std
    syscall
    pushfq
    pop %rsi
    cld
    mov %cs, %ebx
    mov %ss, %edx
    int $0x80

program user_sysenter                       /* rdi: number; the kernel returns to rdx with rsp from rcx */
    mov %rsp, %rcx
    lea 1f(%rip), %rdx
    sysenter
    ud2
1:  mov %cs, %ebx
    mov %ss, %esi
    int $0x80

program user_read_fs
    mov %fs:0, %rax
    mov %fs:8, %rbx
    int $0x80

program user_read_gs
    mov %gs:0, %rax
    mov %gs:(%rdi), %rbx
    int $0x80

program user_write_fs_base
    wrfsbase %rdi
    rdfsbase %rbx
    rdgsbase %rcx
    mov %fs:0, %rax
    int $0x80

program user_null_fs                        
    xor %eax, %eax
    mov %eax, %fs
    mov %fs, %ecx
    int $0x80

/* Compatibility mode: 32-bit code, where 40 is inc %eax, and push moves by 4. rdi: the stack */
    .code32
program user_compatibility
    xor %eax, %eax
    inc %eax
    inc %eax
    mov %esp, %ebx
    push %eax
    sub %esp, %ebx
    mov %cs, %ecx
    add $0xfffffffe, %eax                   /* wraps at 32 bits */
    adc $5, %eax
    int $0x80
    .code64

    .text
/* u64 saved in memory: one CPU, and syscalls that do not nest */
    .global syscall_entry
syscall_entry:
    mov %rsp, syscall_user_rsp(%rip)
    mov $syscall_stack_top, %rsp
    push %rcx
    push %r11
    pushfq
    pop %rax
    mov %rax, syscall_flags(%rip)
    mov %rcx, syscall_rcx(%rip)
    mov %r11, syscall_r11(%rip)
    mov %cs, syscall_cs(%rip)
    mov %ss, syscall_ss(%rip)
    cld
    call syscall_in_c                       /* (rdi) */
    pop %r11
    pop %rcx
    mov syscall_user_rsp(%rip), %rsp
    sysretq

    .global sysenter_entry
sysenter_entry:
    mov %rsp, sysenter_rsp(%rip)
    mov %cs, syscall_cs(%rip)
    mov %ss, syscall_ss(%rip)
    pushfq
    pop %rax
    mov %rax, syscall_flags(%rip)
    push %rcx
    push %rdx
    call syscall_in_c
    pop %rdx
    pop %rcx
    rex.W sysexit

/* The entry of a kernel that keeps its per-CPU data behind GS */
    .global swapgs_entry
swapgs_entry:
    swapgs
    mov %gs:0, %rax
    swapgs
    sysretq

    .global enter_compatibility             /* (rip, rsp): with interrupts off */
enter_compatibility:
    pushq $0x23
    push %rsi
    pushq $2
    pushq $0x1b                             /* USER_CS32 */
    push %rdi
    iretq

    .bss
    .balign 16
    .skip 4096
syscall_stack_top:
    .global syscall_stack_top, syscall_user_rsp, syscall_flags, syscall_rcx, syscall_r11, syscall_cs, syscall_ss
    .global sysenter_rsp
syscall_user_rsp: .skip 8
syscall_flags: .skip 8
syscall_rcx: .skip 8
syscall_r11: .skip 8
syscall_cs: .skip 8
syscall_ss: .skip 8
sysenter_rsp: .skip 8

    .section .note.GNU-stack, "", @progbits
