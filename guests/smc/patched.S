/* Code that is stored into while it runs, through its own mapping: own.c makes this page writable first. Each routine
 * returns in eax what the code said when it was executed. */
    .text
    .balign 4096
    .global patched_page, patched_page_end
patched_page:

/* next_function: what patch_and_call calls; its immediate is rewritten first */
    .global patch_and_call
patch_and_call:                             /* (value) */
    mov %edi, next_function + 1(%rip)
    call next_function
    ret
next_function:
    mov $0x11111111, %eax
    ret

/* The very next instruction of the same basic block: an x86 must see it */
    .global patch_next_instruction
patch_next_instruction:                     /* (value) */
    mov %edi, 1f + 1(%rip)
1:  mov $0x11111111, %eax
    ret

/* A few instructions ahead in the same block, by one byte */
    .global patch_a_byte_ahead
patch_a_byte_ahead:                         /* (low byte) */
    mov %dil, 1f + 1(%rip)
    xor %edx, %edx
    add $3, %edx
    lea (%rdx,%rdx), %ecx
1:  mov $0x22222200, %eax
    add %ecx, %eax
    ret

/* A different instruction in the place of one: nop; nop becomes inc %eax (ff c0) */
    .global patch_opcode_ahead
patch_opcode_ahead:
    movw $0x9090, 1f(%rip)
    xor %eax, %eax
    movw $0xc0ff, 1f(%rip)
1:  nop
    nop
    ret

/* A loop whose body is rewritten in each round: the immediate added grows by one. Returns 1 + 2 + ... + rounds. */
    .global patch_loop_body
patch_loop_body:                            /* (rounds) */
    xor %eax, %eax
    movl $1, 2f + 2(%rip)                   /* add $imm32, %eax has an opcode of its own (05): force the long form */
    mov %edi, %ecx
1:
2:  .byte 0x81, 0xc0                        /* add $imm32, %eax */
    .long 1
    incl 2b + 2(%rip)
    dec %ecx
    jnz 1b
    ret

/* A loop without an exit: its own backward jump is turned into nops once eax has got to the number of rounds */
    .global patch_branch
patch_branch:                               /* (rounds) */
    lea 3f(%rip), %rdx
    movw $0xf3eb, (%rdx)                    /* jmp 2f, 13 bytes back from its end */
    xor %eax, %eax
2:  inc %eax
    cmp %edi, %eax
    jb 3f
    movw $0x9090, (%rdx)
3:  jmp 2b
    ret

/* Behind it (backwards), then jumped to */
    .global patch_behind
patch_behind:                               /* (value) */
    jmp 2f
1:  mov $0x33333333, %eax
    ret
2:  mov %edi, 1b + 1(%rip)
    jmp 1b

/* rep movsb over the instructions that follow it */
    .global patch_by_rep
patch_by_rep:                               /* (source) */
    mov %rdi, %rsi
    lea 1f(%rip), %rdi
    mov $5, %ecx
    cld
    rep movsb
1:  mov $0x44444444, %eax
    ret

/* push writes the code: the stack pointer points behind the immediate */
    .global patch_by_push
patch_by_push:                              /* (8 bytes of code) */
    mov %rsp, %rdx
    lea 1f + 8(%rip), %rsp
    push %rdi
    mov %rdx, %rsp
1:  .fill 8, 1, 0x90
    ret

/* A counter that lives between the instructions that use it: data and code on one line of cache */
    .global count_in_code
count_in_code:
    incl 1f(%rip)
    mov 1f(%rip), %eax
    ret
1:  .long 0
    .balign 4096
patched_page_end:
