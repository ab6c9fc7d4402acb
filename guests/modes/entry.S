/* From 32-bit protected mode to 16 bits, to real mode and back, and only then on to boot.S. The 16-bit part runs from a copy
 * at 8000H, where its addresses fit into 16 bits; the names below are its places there. */

#define COPY 0x8000
#define IN_COPY(label) (COPY + (label) - copied)

#define CR0_PE 1
#define CODE32 0x08
#define DATA32 0x10
#define CODE16 0x18
#define DATA16 0x20
#define REAL_STACK 0x7c00
#define TERMS 5

    .section .boot.text, "ax"
    .code32
    .global modes_entry32
modes_entry32:
    cli
    cld
    mov %eax, saved_magic
    mov %ebx, saved_information
    mov $copied, %esi
    mov $COPY, %edi
    mov $(copied_end - copied), %ecx
    rep movsb
    lgdt modes_gdtr
    ljmp $CODE16, $IN_COPY(in_protected16)

    .global back_in_32
back_in_32:
    mov $DATA32, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov saved_magic, %eax
    mov saved_information, %ebx
    jmp boot_entry32

    .code16
copied:
in_protected16:
    mov $DATA16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %cr0, %eax
    and $~CR0_PE, %eax
    mov %eax, %cr0
    ljmp $0, $IN_COPY(in_real)
in_real:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $REAL_STACK, %sp
    mov $TERMS, %cx
in_sum:
    add %cx, (IN_COPY(the_sum))
    loop in_sum
    ljmp $(COPY >> 4), $(in_segment - copied)   /* the same bytes, seen from a segment that begins at them */
in_segment:
    nop
    ljmp $0, $IN_COPY(in_last)
in_last:
    mov %cr0, %eax
    or $CR0_PE, %eax
    mov %eax, %cr0
    ljmpl $CODE32, $back_in_32
the_sum:
    .long 0
copied_end:

    .global protected16, real, real_sum, real_segment, modes_sum
    .set protected16, IN_COPY(in_protected16)
    .set real, IN_COPY(in_real)
    .set real_sum, IN_COPY(in_sum)
    .set real_segment, IN_COPY(in_segment)
    .set modes_sum, IN_COPY(the_sum)

    .section .boot.data, "aw"
    .balign 8
modes_gdt:
    .quad 0
    .quad 0x00cf9a000000ffff                /* CODE32: 4 GiB */
    .quad 0x00cf92000000ffff                /* DATA32 */
    .quad 0x00009a000000ffff                /* CODE16: 64 KiB from 0, as real mode wants its segments to be */
    .quad 0x000092000000ffff                /* DATA16 */
modes_gdtr:
    .word . - modes_gdt - 1
    .long modes_gdt
saved_magic:
    .long 0
saved_information:
    .long 0

    .section .note.GNU-stack, "", @progbits
