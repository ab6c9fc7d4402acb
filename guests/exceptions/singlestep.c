/* #DB from EFLAGS.TF and from icebp; and RF in the saved flags. */
#include "exceptions.h"

#include "check.h"
#include "console.h"
#include "paging.h"
#include "specimen.h"

enum { DR6_BS = 1 << 14, MAX_STEPS = 24 };

static u64 steps[MAX_STEPS];
static unsigned step_count;
static bool always_bs, always_tf;

static u64 read_dr6(void) {
    u64 value;
    __asm__ volatile("mov %%dr6, %0" : "=r"(value));
    return value;
}
static void clear_dr6(void) { __asm__ volatile("mov %0, %%dr6" : : "r"(0xffff0ff0ull)); }

static bool record_step(struct frame *frame) {
    if (step_count < MAX_STEPS)
        steps[step_count] = frame->rip;
    step_count++;
    always_bs &= (read_dr6() & DR6_BS) != 0;
    always_tf &= (frame->rflags & RFLAGS_TF) != 0 || frame->rip == steps[0];
    clear_dr6();
    return true;
}

static u64 flags_in_handler, flags_in_frame;

static bool step_over_interrupt(struct frame *frame) {
    flags_in_handler = read_flags();
    flags_in_frame = frame->rflags;
    return true;
}

static void begin_steps(void) {
    step_count = 0;
    always_bs = always_tf = true;
    clear_dr6();
    set_trap_handler(VEC_DB, record_step);
}

#define STEP(n) extern const u8 step_##n[]
STEP(1); STEP(2); STEP(3); STEP(4); STEP(5); STEP(6); STEP(7); STEP(8); STEP(9); STEP(10); STEP(11); STEP(12); STEP(13);
STEP(14); STEP(15); STEP(rep);

static void kernel_steps(void) {
    const u8 *const due[] = {step_1, step_2,  step_3,   step_4,   step_5,  step_6,  step_7,  step_8, step_9,
                             step_10, step_rep, step_rep, step_11, step_12, step_13, step_14, step_15};
    enum { DUE = sizeof due / sizeof due[0] };
    void k_stepped(u64);

    set_trap_handler(0x90, step_over_interrupt);
    begin_steps();
    expect_no_trap("stepped code runs to its end", k_stepped, 0);
    set_trap_handler(VEC_DB, NULL);
    set_trap_handler(0x90, NULL);
    check_eq("a #DB after each instruction, none elsewhere", step_count, DUE);
    unsigned same = 0;
    while (same < DUE && steps[same] == (u64)due[same])
        same++;
    check_eq("each with the next instruction as RIP", same, DUE);
    if (same < DUE)
        print("     step %u: got rip %lx want %lx\n", same, steps[same], (u64)due[same]);
    check("DR6.BS set in each", always_bs);
    check_eq("int n saves TF", flags_in_frame & RFLAGS_TF, RFLAGS_TF);
    check_eq("and clears it", flags_in_handler & RFLAGS_TF, 0);
}

static void user_steps(void) {
    extern const u8 u_stepped[], u_stepped_end[];
    struct trap trap;
    begin_steps();
    run_user_flags(&trap, u_stepped, 0, RFLAGS_TF);
    set_trap_handler(VEC_DB, NULL);
    check_trap("stepped code in ring 3 runs to its end", &trap, VEC_USER_EXIT, 0, u_stepped_end, 0);
    check_eq("nop, mov, five rounds of two", step_count, 12);
    check("TF saved by each", always_tf);
}

/* SDM vol. 3, 18.3.1.1: RF is set in the flags that a fault saves, clear in those of a trap or interrupt. */
static void resume_flag(void) {
    struct trap trap;
    void k_ud2(u64), k_read(u64), k_int3(u64);
    if (!skip_on_tcg("faults save RF set")) {
        catch_trap(&trap, k_ud2, 0);
        check_eq("a fault saves RF set", trap.frame.rflags & RFLAGS_RF, RFLAGS_RF);
        catch_trap(&trap, k_read, TEST_VA);
        check_eq("so does #PF", trap.frame.rflags & RFLAGS_RF, RFLAGS_RF);
    }
    catch_trap(&trap, k_int3, 0);
    check_eq("a trap saves RF clear", trap.frame.rflags & RFLAGS_RF, 0);
    check_eq("pushf never shows RF", read_flags() & RFLAGS_RF, 0);
}

void test_single_step(void) {
    section("#DB: single step");
    kernel_steps();
    user_steps();
    if (!skip_on_tcg("icebp"))
        BOTH_RAISE("icebp", icebp, 0, VEC_DB, 0, after);
    section("RF in saved flags");
    resume_flag();
}
