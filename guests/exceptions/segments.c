/* Exceptions that carry a selector: index and table bits as in the selector, bit 1 set for an IDT vector, bit 0 (EXT)
 * clear because a program did it. (EXT set: double.c.) */
#include "exceptions.h"

#include "check.h"
#include "segments.h"
#include "specimen.h"

enum { TEST_GATE = 0x90, BEYOND_GDT = 0x1000, LDT_SELECTOR = 0x0c };

static void set_test_descriptor(u8 access, bool long_mode) {
    gdt[TEST_SELECTOR / 8] = segment_descriptor(access, long_mode);
    gdt[TEST_SELECTOR / 8 + 1] = 0;
}

static void data_segments(void) {
    section("segment loads");
    BOTH_RAISE("ds beyond the GDT: #GP(selector)", load_ds, BEYOND_GDT, VEC_GP, BEYOND_GDT, at);
    BOTH_RAISE("the error code leaves out the RPL", load_ds, BEYOND_GDT | 3, VEC_GP, BEYOND_GDT, at);
    BOTH_RAISE("ds from an LDT that is not there: #GP(selector)", load_ds, LDT_SELECTOR, VEC_GP, LDT_SELECTOR, at);
    USER_RAISES("ring 3 loads a ring-0 data segment", load_ds, KERNEL_SS, VEC_GP, KERNEL_SS, at);
    KERNEL_RAISES("ss with another RPL than CPL", load_ss, USER_SS, VEC_GP, USER_SS & ~3, at);
    KERNEL_RAISES("ss with a code segment", load_ss, KERNEL_CS, VEC_GP, KERNEL_CS, at);
    USER_RAISES("null ss in ring 3: #GP(0)", load_ss, 0, VEC_GP, 0, at);
    USER_RUNS("null ds in ring 3 is allowed", load_ds, 0);
    KERNEL_RUNS("a present data segment loads", load_fs, KERNEL_SS);

    const u8 data = SEG_NOT_SYSTEM | SEG_WRITABLE;
    set_test_descriptor(data | SEG_DPL3, false);
    BOTH_RAISE("ds not present: #NP(selector)", load_ds, TEST_SELECTOR | 3, VEC_NP, TEST_SELECTOR, at);
    USER_RAISES("ss not present: #SS(selector) in ring 3", load_ss, TEST_SELECTOR | 3, VEC_SS, TEST_SELECTOR, at);
    set_test_descriptor(data, false);
    KERNEL_RAISES("ss not present: #SS(selector) in ring 0", load_ss, TEST_SELECTOR, VEC_SS, TEST_SELECTOR, at);
    set_test_descriptor(data | SEG_PRESENT, false);
    KERNEL_RUNS("the same, made present", load_ss, TEST_SELECTOR);
    check_eq("loading set its accessed bit", gdt[TEST_SELECTOR / 8] >> 40 & SEG_ACCESSED, SEG_ACCESSED);
    __asm__ volatile("mov %0, %%ss" : : "r"(KERNEL_SS));
    __asm__ volatile("mov %0, %%fs" : : "r"(0));
}

static void code_segments(void) {
    section("far transfers");
    KERNEL_RAISES("far return to null: #GP(0)", far_return, 0, VEC_GP, 0, at);
    BOTH_RAISE("far return to data: #GP(selector)", far_return, USER_SS, VEC_GP, USER_SS & ~3, at);
    USER_RAISES("far return from ring 3 to ring 0: #GP(selector)", far_return, KERNEL_CS, VEC_GP, KERNEL_CS, at);
    const u8 code = SEG_NOT_SYSTEM | SEG_CODE | SEG_WRITABLE;
    set_test_descriptor(code, true);
    KERNEL_RAISES("far return to code not present: #NP(selector)", far_return, TEST_SELECTOR, VEC_NP, TEST_SELECTOR, at);
    KERNEL_RAISES("iret to code not present: #NP(selector)", iret_to_cs, TEST_SELECTOR, VEC_NP, TEST_SELECTOR, at);
    KERNEL_RAISES("iret to null CS: #GP(0)", iret_to_cs, 0, VEC_GP, 0, at);
    KERNEL_RAISES("iret with NT in long mode: #GP(0)", iret_nt, 0, VEC_GP, 0, at);
    if (!skip_on_tcg("iret to an address that is not canonical"))
        KERNEL_RAISES("iret to an address that is not canonical: #GP(0)", iret_noncanonical, 1ull << 47, VEC_GP, 0, at);
    KERNEL_RAISES("iret to ring 3 with null SS: #GP(0)", iret_to_ss, 0, VEC_GP, 0, at);
    KERNEL_RAISES("iret to ring 3 with a ring-0 SS: #GP(selector)", iret_to_ss, KERNEL_SS, VEC_GP, KERNEL_SS, at);
}

static void system_segments(void) {
    section("ltr and lldt");
    KERNEL_RAISES("ltr of the busy TSS: #GP(selector)", ltr, TSS_SELECTOR, VEC_GP, TSS_SELECTOR, at);
    if (!skip_on_tcg("ltr of null"))
        KERNEL_RAISES("ltr of null: #GP(0)", ltr, 0, VEC_GP, 0, at);
    set_test_descriptor(TYPE_TSS, false);
    KERNEL_RAISES("ltr of a TSS not present: #NP(selector)", ltr, TEST_SELECTOR, VEC_NP, TEST_SELECTOR, at);
    KERNEL_RAISES("lldt of a TSS: #GP(selector)", lldt, TEST_SELECTOR, VEC_GP, TEST_SELECTOR, at);
    set_test_descriptor(TYPE_LDT, false);
    KERNEL_RAISES("lldt not present: #NP(selector)", lldt, TEST_SELECTOR, VEC_NP, TEST_SELECTOR, at);
    KERNEL_RUNS("lldt of null", lldt, 0);
}

static void load_tss_with_limit(u32 limit) {
    gdt[TSS_SELECTOR / 8] &= ~((u64)SEG_WRITABLE << 40); /* bit 1 of the type is "busy" for a TSS */
    gdt[TSS_SELECTOR / 8] = (gdt[TSS_SELECTOR / 8] & ~0xffffull) | limit;
    __asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
}

static void gates(void) {
    section("gates");
    USER_RAISES("int 0x20 from ring 3 to a DPL-0 gate: #GP(vector)", int_20, 0, VEC_GP, idt_error(0x20), at);
    USER_RAISES("int 14 from ring 3 is no page fault", int_0e, 0, VEC_GP, idt_error(14), at);
    KERNEL_RAISES("int n goes through a DPL-0 gate in ring 0", int_90, 0, TEST_GATE, 0, after);

    idt[TEST_GATE].type = GATE_INTERRUPT | GATE_DPL3;
    USER_RAISES("int n from ring 3 to a DPL-3 gate", int_90, 0, TEST_GATE, 0, after);
    idt[TEST_GATE].type &= (u8)~GATE_PRESENT;
    BOTH_RAISE("gate not present: #NP(vector)", int_90, 0, VEC_NP, idt_error(TEST_GATE), at);
    idt[TEST_GATE].type = (GATE_PRESENT | GATE_DPL3) | SEG_NOT_SYSTEM | SEG_WRITABLE;
    KERNEL_RAISES("gate of a wrong type: #GP(vector)", int_90, 0, VEC_GP, idt_error(TEST_GATE), at);

    idt[TEST_GATE].type = GATE_INTERRUPT | GATE_DPL3;
    idt[TEST_GATE].selector = KERNEL_SS;
    BOTH_RAISE("gate to a data segment: #GP(selector)", int_90, 0, VEC_GP, KERNEL_SS, at);
    idt[TEST_GATE].selector = 0;
    KERNEL_RAISES("gate to null: #GP(0)", int_90, 0, VEC_GP, 0, at);
    set_test_descriptor(SEG_NOT_SYSTEM | SEG_CODE | SEG_WRITABLE, true);
    idt[TEST_GATE].selector = TEST_SELECTOR;
    KERNEL_RAISES("gate to code not present: #NP(selector)", int_90, 0, VEC_NP, TEST_SELECTOR, at);
    reset_gate(TEST_GATE);

    struct table_register idtr = {0xff * 16 - 1, (u64)idt};
    __asm__ volatile("lidt %0" : : "m"(idtr));
    BOTH_RAISE("int beyond the IDT limit: #GP(vector)", int_ff, 0, VEC_GP, idt_error(0xff), at);
    idtr.limit = sizeof idt - 1;
    __asm__ volatile("lidt %0" : : "m"(idtr));

    section("#TS");
    set_gate(TEST_GATE, idt, GATE_INTERRUPT, IST_TEST); /* never entered */
    load_tss_with_limit(0x2a);                          /* RSP0 is within, IST2 is not */
    KERNEL_RAISES("IST beyond the TSS limit: #TS(TSS)", int_90, 0, VEC_TS, TSS_SELECTOR, at);
    load_tss_with_limit(sizeof tss - 1);
    reset_gate(TEST_GATE);
    KERNEL_RAISES("the whole TSS again", int_90, 0, TEST_GATE, 0, after);
}

void test_segment_exceptions(void) {
    data_segments();
    code_segments();
    system_segments();
    gates();
}
