/* What ring 3 does for access.c. */
    .section .user.text, "ax"
    .global user_load_code, user_store_code
user_load_code:
    mov (%rdi), %rax
    int $0x80
user_store_code:
    mov -8(%rsp), %rax
    mov %rax, (%rdi)
    int $0x80
