/* Exceptions while one is being delivered: #DF on its IST stack, and the EXT bit. */
#include "exceptions.h"

#include "check.h"
#include "features.h"
#include "paging.h"
#include "pic.h"
#include "pit.h"
#include "segments.h"
#include "specimen.h"

#define NO_STACK (TEST_VA + 16 * PAGE_SIZE) /* the end of a page that is not there */

/* Set when no `int` instruction did it. TCG (7.2) never sets it. */
static u64 ext(void) { return cpu.tcg ? 0 : 1; }

static void check_double_fault(const char *name, const struct trap *trap) {
    check_trap(name, trap, VEC_DF, 0, NULL, 0);
    check_eq("  on its IST stack", trap->stack, tss.ist[IST_DOUBLE_FAULT - 1]);
}

static void stack_not_there(void) {
    extern const u8 u_ud2[], u_read[], u_int_90[];
    struct trap trap;
    tss.rsp[0] = NO_STACK;
    run_user(&trap, u_read, TEST_VA);
    check_double_fault("#PF in ring 3 without a kernel stack", &trap);
    check_eq("  CS is the interrupted ring's", trap.frame.cs, USER_CS);
    check_eq("  CR2 is the stack", trap.cr2 & ~(PAGE_SIZE - 1), NO_STACK - PAGE_SIZE);
    run_user(&trap, u_ud2, 0);
    check_double_fault("#UD in ring 3 without a kernel stack", &trap);
    idt[0x90].type |= GATE_DPL3;
    run_user(&trap, u_int_90, 0);
    check_double_fault("int n in ring 3 without a kernel stack", &trap);
    reset_gate(0x90);

    /* With an IST stack nobody needs RSP0 */
    idt[VEC_UD].ist = IST_TEST;
    run_user(&trap, u_ud2, 0);
    check_trap("#UD over an IST stack without a kernel stack", &trap, VEC_UD, 0, u_ud2, 0);
    check_eq("  on that stack", trap.stack, tss.ist[IST_TEST - 1]);
    tss.rsp[0] = (u64)trap_stack_top;
    void k_ud2(u64);
    catch_trap(&trap, k_ud2, 0);
    check_eq("an IST stack is taken in ring 0, too", trap.stack, tss.ist[IST_TEST - 1]);
    reset_gate(VEC_UD);
}

/* In ring 0 the frame goes to the current stack: here that is one that is not there. */
static void lose_stack(u64 arg) {
    (void)arg;
    __asm__ volatile("mov %0, %%rsp; ud2" : : "r"(NO_STACK) : "memory");
}

static void gate_not_present(const char *name, u8 vector, void (*fn)(u64), u64 arg) {
    struct trap trap;
    idt[vector].type &= (u8)~GATE_PRESENT;
    catch_trap(&trap, fn, arg);
    reset_gate(vector);
    check_double_fault(name, &trap);
}

static void contributory(void) {
    void k_read(u64), k_div_zero(u64), k_load_ds(u64);
    struct trap trap;
    catch_trap(&trap, lose_stack, 0);
    check_double_fault("#UD in ring 0 with its stack not there", &trap);
    check_eq("  SS:RSP are the interrupted ones", trap.frame.rsp, NO_STACK);
    gate_not_present("#NP while delivering #GP", VEC_GP, k_load_ds, 0x1000);
    gate_not_present("#NP while delivering #PF", VEC_PF, k_read, TEST_VA);
    gate_not_present("#NP while delivering #DE", VEC_DE, k_div_zero, 0);
}

static void benign(void) {
    idt[VEC_UD].type &= (u8)~GATE_PRESENT;
    BOTH_RAISE("#NP while delivering #UD is just #NP, EXT set", ud2, 0, VEC_NP, idt_error(VEC_UD) | ext(), at);
    reset_gate(VEC_UD);
    idt[VEC_BP].type &= (u8)~GATE_PRESENT;
    BOTH_RAISE("for int3 EXT is clear", int3, 0, VEC_NP, idt_error(VEC_BP), at);
    reset_gate(VEC_BP);
}

static void wait_for_interrupt(u64 arg) {
    (void)arg;
    pit_one_shot(1000);
    pic_unmask(PIT_IRQ);
    sti_hlt_cli();
}

static void external_interrupt(void) {
    idt[VEC_IRQ0].type &= (u8)~GATE_PRESENT;
    expect_trap("an interrupt through a gate not present: EXT set", wait_for_interrupt, 0, VEC_NP,
                idt_error(VEC_IRQ0) | ext(), NULL);
    reset_gate(VEC_IRQ0);
    pic_mask(PIT_IRQ);
    pic_eoi(PIT_IRQ);
    pit_stop();
}

void test_double_faults(void) {
    section("#DF");
    *table_entry(kernel_root, TEST_VA, 1) = 0;
    *make_entry(kernel_root, NO_STACK - PAGE_SIZE, 1) = 0;
    flush_all();
    stack_not_there();
    contributory();
    section("EXT in error codes");
    benign();
    external_interrupt();
}
