/* SSE2 and x87: written in assembly because the C code here is compiled without either. Arguments are bit patterns. */
    .text
    .macro routine name
    .balign 16
    .global \name
\name:
    .endm

routine sse_add                             /* (double bits, double bits) */
    movq %rdi, %xmm0
    movq %rsi, %xmm1
    addsd %xmm1, %xmm0
    movq %xmm0, %rax
    ret
routine sse_multiply_add                    /* a * b + a */
    movq %rdi, %xmm0
    movq %rsi, %xmm15
    movapd %xmm0, %xmm8
    mulsd %xmm15, %xmm0
    addsd %xmm8, %xmm0
    movq %xmm0, %rax
    ret
routine sse_divide
    movq %rdi, %xmm0
    movq %rsi, %xmm1
    divsd %xmm1, %xmm0
    movq %xmm0, %rax
    ret
routine sse_square_root
    movq %rdi, %xmm1
    sqrtsd %xmm1, %xmm0
    movq %xmm0, %rax
    ret
routine sse_to_integer                      /* truncates */
    movq %rdi, %xmm3
    cvttsd2si %xmm3, %rax
    ret
routine sse_round                           /* rounds as MXCSR says: to the nearest even */
    movq %rdi, %xmm3
    cvtsd2si %xmm3, %rax
    ret
routine sse_from_integer
    cvtsi2sd %rdi, %xmm3
    movq %xmm3, %rax
    ret
routine sse_compare                         /* bit 0 below, 1 equal, 2 not ordered */
    movq %rdi, %xmm0
    movq %rsi, %xmm1
    ucomisd %xmm1, %xmm0
    setb %al
    sete %cl
    setp %dl
    movzbl %al, %eax
    movzbl %cl, %ecx
    movzbl %dl, %edx
    lea (%rax,%rcx,2), %eax
    lea (%rax,%rdx,4), %eax
    ret
routine sse_packed                          /* (two 16-byte vectors, result): dwords added, low ones multiplied */
    movdqu (%rdi), %xmm0
    movdqu (%rsi), %xmm1
    movdqa %xmm0, %xmm2
    paddd %xmm1, %xmm0
    pmuludq %xmm1, %xmm2
    movdqu %xmm0, (%rdx)
    movdqu %xmm2, 16(%rdx)
    pshufd $0x1b, %xmm0, %xmm3
    movups %xmm3, 32(%rdx)
    movdqu (%rdi), %xmm4
    pmovmskb %xmm4, %eax
    ret
routine x87_mix                             /* sqrt(integer) * pi, rounded to an integer */
    push %rdi
    fninit
    fildll (%rsp)
    fsqrt
    fldpi
    fmulp
    fistpll (%rsp)
    pop %rax
    ret
routine x87_stack                           /* 1, 2, 4: (4 - 2) / 1, and the depth in the status word */
    push $0
    fninit
    fld1
    fld %st(0)
    fadd %st(1), %st
    fld %st(0)
    fadd %st(0), %st
    fsub %st(1), %st
    fdiv %st(2), %st
    fistpl (%rsp)
    fnstsw %ax
    movzwl %ax, %ecx
    pop %rax
    shr $11, %ecx
    and $7, %ecx
    shl $8, %ecx
    or %ecx, %eax                           /* two left on the stack: TOP is 6 */
    fninit
    ret
routine x87_compare                         /* fcomi of 1 with 0: above */
    fninit
    fldz
    fld1
    fcomip %st(1), %st
    seta %al
    movzbl %al, %eax
    fstp %st(0)
    ret
routine save_and_restore                    /* (512 bytes, aligned): 1 if xmm0, xmm15 and st0 come back */
    fninit
    fld1
    mov $0x1122334455667788, %rax
    movq %rax, %xmm0
    movq %rax, %xmm15
    fxsave64 (%rdi)
    fninit
    fldz
    pxor %xmm0, %xmm0
    pxor %xmm15, %xmm15
    fxrstor64 (%rdi)
    movq %xmm0, %rcx
    movq %xmm15, %rdx
    push $0
    fistpll (%rsp)
    pop %rsi
    cmp %rax, %rcx
    jne 1f
    cmp %rax, %rdx
    jne 1f
    mov %esi, %eax
    ret
1:  xor %eax, %eax
    ret

    .section .note.GNU-stack, "", @progbits
