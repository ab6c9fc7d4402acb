#include "specimen.h"

    specimen exchange, "mov $0x1234, %eax", "xchg %rax, (%rdi)"
    specimen compare_exchange, "mov $1, %eax; mov $2, %ecx", "lock cmpxchg %rcx, (%rdi)"
    specimen write_all_ones, "mov $-1, %rax", "mov %rax, (%rdi)"
    /* 32 bytes, counted up, of which the first 16 fit: a source that is always there */
    specimen rep_movsb, "mov %rdi, %rsi; mov %rsp, %rsi; sub $64, %rsi; mov $32, %ecx; cld", "rep movsb"
    specimen rep_stosq_down, "mov $4, %ecx; mov $7, %eax; std", "rep stosq"
    user_specimen push_there, "mov %rdi, %rsp", "push %rbx"
    user_specimen call_there, "mov %rdi, %rsp", "call u_hlt"
    user_specimen pop_there, "push %rax", "pop (%rdi)"
    user_specimen user_load_ds, "", "mov %edi, %ds"

    .section .user.text, "ax"
    .global user_ret
user_ret:
    ret
    /* reads the user page in %rdi with AC set in ring 0 */
    kernel_specimen stac_read, "stac; mov (%rdi), %rax", "clac"
    kernel_specimen popf_ac_read, "pushfq; orl $0x40000, (%rsp); popfq; mov (%rdi), %rax", "clac"
    kernel_specimen read_from_user, "", "mov (%rdi), %rax"
    kernel_specimen write_to_user, "", "mov %rax, (%rdi)"
    kernel_specimen copy_from_user, "mov %rdi, %rsi; lea -256(%rsp), %rdi; mov $16, %ecx; cld", "rep movsb"
    kernel_specimen call_there, "", "call *%rdi"
