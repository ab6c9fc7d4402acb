/* #GP(0): privilege, control registers, addresses that are not canonical, and the length limit. */
#include "exceptions.h"

#include "check.h"
#include "specimen.h"

#define NONCANONICAL 0x0000800000000000ull
#define NONCANONICAL_HIGH 0xffff7fffffffffffull
enum { UNKNOWN_MSR = 0x7eadbeef, CR0_PG = 1u << 31, CR0_NW = 1 << 29, CR4_PAE = 1 << 5 };

static void canonical_addresses(void) {
    section("addresses that are not canonical");
    BOTH_RAISE("read: #GP(0)", read, NONCANONICAL, VEC_GP, 0, at);
    BOTH_RAISE("write: #GP(0)", write, NONCANONICAL_HIGH, VEC_GP, 0, at);
    BOTH_RAISE("read-modify-write: #GP(0)", read_modify_write, NONCANONICAL, VEC_GP, 0, at);
    USER_RAISES("the whole of 2^63: #GP(0)", read, 1ull << 63, VEC_GP, 0, at);
    if (!skip_on_tcg("through the stack segment: #SS(0)")) {
        BOTH_RAISE("read through rbp: #SS(0)", read_stack, NONCANONICAL, VEC_SS, 0, at);
        USER_RAISES("push: #SS(0)", push, NONCANONICAL + 8, VEC_SS, 0, at);
    }
    if (!skip_on_tcg("indirect branch: #GP(0) at the branch, not at its target")) {
        BOTH_RAISE("indirect jump: #GP(0) at the branch", jump, NONCANONICAL, VEC_GP, 0, at);
        BOTH_RAISE("indirect call: #GP(0) at the branch", call, NONCANONICAL, VEC_GP, 0, at);
    }
}

static void privileged_instructions(void) {
    section("privileged instructions in ring 3: #GP(0)");
    USER_RAISES("hlt", hlt, 0, VEC_GP, 0, at);
    USER_RAISES("cli", cli, 0, VEC_GP, 0, at);
    USER_RAISES("sti", sti, 0, VEC_GP, 0, at);
    USER_RAISES("in", in, 0, VEC_GP, 0, at);
    USER_RAISES("out", out, 0, VEC_GP, 0, at);
    USER_RAISES("out immediate", out_immediate, 0, VEC_GP, 0, at);
    USER_RAISES("insb", ins, 0, VEC_GP, 0, at);
    USER_RAISES("mov from cr0", read_cr0, 0, VEC_GP, 0, at);
    USER_RAISES("mov to cr0", write_cr0, 0, VEC_GP, 0, at);
    USER_RAISES("mov from cr3", read_cr3, 0, VEC_GP, 0, at);
    USER_RAISES("mov to cr4", write_cr4, 0, VEC_GP, 0, at);
    USER_RAISES("mov from dr7", read_dr7, 0, VEC_GP, 0, at);
    USER_RAISES("lgdt", lgdt, 0, VEC_GP, 0, at);
    USER_RAISES("lidt", lidt, 0, VEC_GP, 0, at);
    USER_RAISES("ltr", ltr_user, 0, VEC_GP, 0, at);
    USER_RAISES("lldt", lldt_user, 0, VEC_GP, 0, at);
    USER_RAISES("lmsw", lmsw, 0, VEC_GP, 0, at);
    USER_RAISES("clts", clts, 0, VEC_GP, 0, at);
    USER_RAISES("wbinvd", wbinvd, 0, VEC_GP, 0, at);
    USER_RAISES("invlpg", invlpg, 0, VEC_GP, 0, at);
    USER_RAISES("rdmsr", rdmsr, 0, VEC_GP, 0, at);
    USER_RAISES("wrmsr", wrmsr, 0, VEC_GP, 0, at);
    USER_RAISES("swapgs", swapgs, 0, VEC_GP, 0, at);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE); /* without it sysret is #UD, and there is no privilege to check */
    USER_RAISES("sysret", sysretq, 0, VEC_GP, 0, at);

    USER_RUNS("rdtsc is allowed", rdtsc, 0);
    write_cr4(read_cr4() | CR4_TSD);
    USER_RAISES("rdtsc with CR4.TSD", rdtsc, 0, VEC_GP, 0, at);
    write_cr4(read_cr4() & ~(u64)CR4_TSD);

    struct trap trap;
    extern const u8 u_iopl_mix[], u_popf[];
    run_user_flags(&trap, u_iopl_mix, 0, RFLAGS_IOPL);
    check_trap("IOPL 3 allows cli, sti and in", &trap, VEC_USER_EXIT, 0, NULL, 0);
    check("and sti set IF", trap.frame.rflags & RFLAGS_IF);
    run_user(&trap, u_popf, 0);
    check_trap("popf in ring 3 does not fault", &trap, VEC_USER_EXIT, 0, NULL, 0);
    check_eq("and changes neither IF nor IOPL", trap.frame.rax & (RFLAGS_IF | RFLAGS_IOPL), 0);
}

static void control_registers(void) {
    section("control registers and MSRs");
    if (!skip_on_tcg("cr0: combinations that are not allowed")) {
        KERNEL_RAISES("cr0: paging without protection", load_cr0, CR0_PG, VEC_GP, 0, at);
        KERNEL_RAISES("cr0: NW without CD", load_cr0, read_cr0() | CR0_NW, VEC_GP, 0, at);
    }
    if (!skip_on_tcg("cr4: values that are not allowed")) { /* 7.2 never gets past the first of these */
        KERNEL_RAISES("cr4: a reserved bit", load_cr4, read_cr4() | 1ull << 31, VEC_GP, 0, at);
        KERNEL_RAISES("cr4: clearing PAE in long mode", load_cr4, read_cr4() & ~(u64)CR4_PAE, VEC_GP, 0, at);
    }
    KERNEL_RUNS("cr4: what it was", load_cr4, read_cr4());
    if (!skip_on_tcg("unknown MSRs")) {
        KERNEL_RAISES("rdmsr of an unknown MSR", read_msr, UNKNOWN_MSR, VEC_GP, 0, at);
        KERNEL_RAISES("wrmsr of an unknown MSR", write_msr, UNKNOWN_MSR, VEC_GP, 0, at);
    }
    KERNEL_RUNS("wrmsr of a known one", write_msr, MSR_KERNEL_GS_BASE);
}

void test_protection(void) {
    canonical_addresses();
    privileged_instructions();
    control_registers();
    section("length limit");
    BOTH_RAISE("16 bytes of instruction: #GP(0)", too_long, 0, VEC_GP, 0, at);
}
