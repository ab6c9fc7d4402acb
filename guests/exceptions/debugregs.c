/* #DB from the debug registers: execution breakpoints are faults, data breakpoints are traps. */
#include "exceptions.h"

#include "check.h"
#include "specimen.h"

enum { DR6_B0 = 1, DR6_B1 = 2, DR6_BD = 1 << 13, DR7_ALWAYS_SET = 1 << 10, DR7_GD = 1 << 13 };
enum { EXECUTE = 0, WRITE = 1, READ_WRITE = 3, LENGTH_1 = 0, LENGTH_2 = 1, LENGTH_4 = 3, LENGTH_8 = 2 };

#define READ_DR(n)                                            \
    ({                                                        \
        u64 value;                                            \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(value)); \
        value;                                                \
    })
#define WRITE_DR(n, value) __asm__ volatile("mov %0, %%dr" #n : : "r"((u64)(value)) : "memory")

static __attribute__((aligned(16))) volatile u8 watched[16];
static unsigned hits;
static u64 hit_rip, hit_dr6, dr7_in_handler;

static u64 enable(unsigned n, unsigned kind, unsigned length) {
    return DR7_ALWAYS_SET | 1u << (2 * n) | (u64)(kind | length << 2) << (16 + 4 * n);
}

static bool count_hit(struct frame *frame) {
    hits++;
    hit_rip = frame->rip;
    hit_dr6 = READ_DR(6);
    dr7_in_handler = READ_DR(7);
    frame->rflags |= RFLAGS_RF; /* what a debugger does to get past an execution breakpoint */
    WRITE_DR(6, 0xffff0ff0);
    return true;
}

static void arm(u64 dr7) {
    hits = 0;
    WRITE_DR(6, 0xffff0ff0);
    WRITE_DR(7, dr7);
}

static void execution(void) {
    void k_two_adds(u64);
    extern const u8 k_two_adds_second[];
    static u32 sum;
    WRITE_DR(0, (u64)k_two_adds_second);
    arm(enable(0, EXECUTE, LENGTH_1));
    sum = 0;
    k_two_adds((u64)&sum);
    check_eq("an execution breakpoint hits once", hits, 1);
    check_eq("with RIP at the instruction", hit_rip, (u64)k_two_adds_second);
    check_eq("and DR6.B0", hit_dr6 & 0xf, DR6_B0);
    check_eq("RF then lets it run, once", sum, 3);
    k_two_adds((u64)&sum);
    check_eq("it hits again the next time", hits, 2);
    arm(DR7_ALWAYS_SET);
    k_two_adds((u64)&sum);
    check_eq("disabled it does not", hits, 0);
}

static void watch(const char *name, void (*fn)(u64), u64 offset, unsigned expected) {
    hits = 0;
    fn((u64)&watched[offset]);
    check_eq(name, hits, expected);
}

static void data(void) {
    void k_store1(u64), k_store8(u64), k_load8(u64);
    extern const u8 k_store8_after[], u_store1[];
    WRITE_DR(1, (u64)&watched[8]);
    arm(enable(1, WRITE, LENGTH_8));
    watch("a write to watched bytes hits", k_store8, 8, 1);
    check_eq("with RIP after the instruction", hit_rip, (u64)k_store8_after);
    check_eq("and DR6.B1", hit_dr6 & 0xf, DR6_B1);
    check_eq("the write is done", watched[8], 1);
    watch("a write to the last of them hits", k_store1, 15, 1);
    watch("a write below does not", k_store1, 7, 0);
    watch("an 8-byte write that overlaps does", k_store8, 4, 1);
    watch("a read does not", k_load8, 8, 0);
    arm(enable(1, READ_WRITE, LENGTH_1));
    watch("a watched read hits", k_load8, 8, 1);
    watch("with length 1, the next byte does not", k_store1, 9, 0);
    WRITE_DR(3, (u64)&watched[2]);
    arm(enable(3, WRITE, LENGTH_2));
    watch("length 2 ends after two bytes", k_store1, 4, 0);
    watch("and has the second", k_store1, 3, 1);
    WRITE_DR(3, (u64)&watched[4]);
    arm(enable(3, WRITE, LENGTH_4));
    watch("length 4 has the fourth", k_store1, 7, 1);

    static const u64 user_stack_word = 0x7fffffeff0; /* below USER_STACK_TOP, where u_store1 writes */
    struct trap trap;
    WRITE_DR(0, user_stack_word);
    arm(enable(0, WRITE, LENGTH_8));
    run_user(&trap, u_store1, user_stack_word);
    check_trap("ring 3 writes to a watched byte", &trap, VEC_USER_EXIT, 0, NULL, 0);
    check_eq("and hits", hits, 1);
    arm(DR7_ALWAYS_SET);
}

static void general_detect(void) {
    void k_write_dr0(u64);
    extern const u8 k_write_dr0_at[];
    arm(DR7_ALWAYS_SET | DR7_GD);
    k_write_dr0(0x1234);
    check_eq("DR7.GD: one #DB", hits, 1);
    check_eq("before the mov to a debug register", hit_rip, (u64)k_write_dr0_at);
    check_eq("with DR6.BD", hit_dr6 & DR6_BD, DR6_BD);
    check_eq("GD is clear in the handler", dr7_in_handler & DR7_GD, 0);
    check_eq("and the mov is then done", READ_DR(0), 0x1234);
    arm(DR7_ALWAYS_SET);
}

static void other_names(void) {
    KERNEL_RUNS("dr4 is another name of dr6", read_dr4, 0);
    write_cr4(read_cr4() | CR4_DE);
    KERNEL_RAISES("dr4 with CR4.DE", read_dr4, 0, VEC_UD, 0, at);
    KERNEL_RAISES("dr5 with CR4.DE", read_dr5, 0, VEC_UD, 0, at);
    write_cr4(read_cr4() & ~(u64)CR4_DE);
}

void test_debug_registers(void) {
    section("#DB: debug registers");
    WRITE_DR(0, 0x12345678);
    WRITE_DR(7, DR7_ALWAYS_SET | 1 << 8);
    bool works = READ_DR(0) == 0x12345678 && READ_DR(7) == (DR7_ALWAYS_SET | 1 << 8);
    WRITE_DR(7, DR7_ALWAYS_SET);
    if (!works) {
        skip("debug registers", "DR0 or DR7 does not read back what was written");
        return;
    }
    set_trap_handler(VEC_DB, count_hit);
    execution();
    data();
    if (!skip_on_tcg("DR7.GD"))
        general_detect();
    other_names();
    set_trap_handler(VEC_DB, NULL);
}
