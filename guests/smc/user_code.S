/* Ring-3 code that writes code. The user section is mapped writable and executable. */
    .section .user.text, "ax"
    .global user_patch_next, user_patch_loop, user_write_and_call, user_return_value

user_patch_next:                            /* (value): rax is what ran */
    mov %edi, 1f + 1(%rip)
1:  mov $0x11111111, %eax
    int $0x80

user_patch_loop:                            /* (rounds): 1 + 2 + ... + rounds */
    xor %eax, %eax
    movl $1, 1f + 2(%rip)
    mov %edi, %ecx
1:  .byte 0x81, 0xc0                        /* add $imm32, %eax */
    .long 1
    incl 1b + 2(%rip)
    dec %ecx
    jnz 1b
    int $0x80

user_write_and_call:                        /* (page): writes mov $0x5a5a, %eax; ret there and calls it */
    movb $0xb8, (%rdi)
    movl $0x5a5a, 1(%rdi)
    movb $0xc3, 5(%rdi)
    call *%rdi
    mov %eax, %ebx
    incl 1(%rdi)
    call *%rdi
    int $0x80                               /* ebx the first result, eax the second */

user_return_value:
    mov $0x77777777, %eax
    int $0x80
