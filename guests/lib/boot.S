/* From the Multiboot loader (32-bit protected mode, paging off) to kmain() in long mode.
 *
 * Boot page tables: the first GiB in 2 MiB pages, seen three times: where it is, at DIRECT_MAP and at the higher half.
 * All three are the same page directory. paging_init() replaces these tables by fine-grained ones. */

#define MULTIBOOT_MAGIC     0x1badb002
#define MULTIBOOT_FLAGS     0x00000003      /* modules page aligned; give us the memory size */

#define CR0_PE_MP_ET_NE_WP_PG 0x80010033
#define CR4_PAE_OSFXSR_OSXMMEXCPT 0x620
#define MSR_EFER            0xc0000080
#define EFER_LME            0x100

    .section .boot.header, "a"
    .balign 4
    .long MULTIBOOT_MAGIC
    .long MULTIBOOT_FLAGS
    .long -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

    .section .boot.text, "ax"
    .code32
    .global boot_entry32
boot_entry32:
    cli
    cld
    mov $boot_stack_top, %esp
    mov %eax, %ebp                          /* Multiboot magic, kept for kmain */
    mov %ebx, %esi                          /* Multiboot information */

    mov $0x80000000, %eax
    cpuid
    cmp $0x80000001, %eax
    jb no_long_mode
    mov $0x80000001, %eax
    cpuid
    bt $29, %edx
    jnc no_long_mode

    /* 512 entries of 2 MiB: present, writable, large */
    mov $boot_pd, %edi
    mov $0x83, %eax
    xor %ecx, %ecx
1:  mov %eax, (%edi,%ecx,8)
    movl $0, 4(%edi,%ecx,8)
    add $0x200000, %eax
    inc %ecx
    cmp $512, %ecx
    jne 1b

    mov $boot_pd, %eax
    or $3, %eax
    mov %eax, boot_pdpt + 0 * 8             /* VA 0, and DIRECT_MAP */
    mov %eax, boot_pdpt + 510 * 8           /* VA 0xffffffff80000000 */
    mov $boot_pdpt, %eax
    or $3, %eax
    mov %eax, boot_pml4 + 0 * 8
    mov %eax, boot_pml4 + 256 * 8
    mov %eax, boot_pml4 + 511 * 8

    mov $CR4_PAE_OSFXSR_OSXMMEXCPT, %eax
    mov %eax, %cr4
    mov $boot_pml4, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    mov $CR0_PE_MP_ET_NE_WP_PG, %eax
    mov %eax, %cr0
    lgdt boot_gdtr
    ljmp $0x08, $boot_entry64

no_long_mode:
    /* Without long mode there is no console driver either: say so byte by byte and leave with the verdict "failed". */
    mov $no_long_mode_text, %esi
2:  mov $0x3fd, %dx
3:  in (%dx), %al
    test $0x20, %al
    jz 3b
    lodsb
    test %al, %al
    jz 4f
    mov $0x3f8, %dx
    out %al, (%dx)
    jmp 2b
4:  mov $1, %eax
    mov $0xf4, %dx
    out %eax, (%dx)
5:  hlt
    jmp 5b

    .code64
boot_entry64:
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    fninit
    movabs $kernel_entry, %rax
    jmp *%rax

    .section .boot.data, "aw"
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff                /* 64-bit code, DPL 0 */
boot_gdtr:
    .word . - boot_gdt - 1
    .long boot_gdt
no_long_mode_text:
    .asciz "FAIL this guest needs a CPU with long mode\r\n"
    .balign 4096
    .global boot_pml4                       /* the pagetables guest goes back to these tables once */
boot_pml4:
    .fill 512, 8, 0
boot_pdpt:
    .fill 512, 8, 0
boot_pd:
    .fill 512, 8, 0
boot_stack:
    .fill 128, 4, 0
boot_stack_top:

    .text
kernel_entry:
    mov $kernel_stack_top, %rsp
    mov %ebp, %edi                          /* kmain(magic, information): a 32-bit move clears the upper half */
    mov %esi, %esi
    xor %ebp, %ebp                          /* ends gdb's backtraces */
    call kmain
    /* kmain may return: a guest whose verdict is that it halts */
    .global halt_forever
halt_forever:
    cli
    hlt
    jmp halt_forever

    .bss
    .balign 4096
kernel_stack:
    .skip 16384
    .global kernel_stack_top
kernel_stack_top:

    .section .note.GNU-stack, "", @progbits
