/* SYSCALL and SYSENTER. */
#include "selftest.h"

#include "check.h"
#include "features.h"
#include "paging.h"
#include "segments.h"
#include "user.h"

extern u64 syscall_user_rsp, syscall_flags, syscall_rcx, syscall_r11, sysenter_rsp;
extern u16 syscall_cs, syscall_ss;
extern const u8 syscall_entry[], sysenter_entry[], user_syscall_at[], user_after_syscall[];

static volatile unsigned calls;

u64 syscall_in_c(u64 number) {
    calls++;
    return number + 1;
}

static void syscalls(void) {
    section("syscall and sysret");
    if (!cpu.syscall) {
        skip("syscall", "CPUID has none");
        return;
    }
    extern const u8 user_syscalls[], user_syscall_state[];
    struct trap trap;
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(u64)EFER_SCE);
    run_user(&trap, user_syscalls, 0);
    check_trap("#UD without EFER.SCE", &trap, VEC_UD, 0, user_syscall_at, 0);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    u64 star = (u64)USER_CS32 << 48 | (u64)KERNEL_CS << 32;
    wrmsr(MSR_STAR, star);
    wrmsr(MSR_LSTAR, (u64)syscall_entry);
    wrmsr(MSR_SFMASK, RFLAGS_IF | RFLAGS_DF | RFLAGS_TF);
    check_eq("STAR", rdmsr(MSR_STAR), star);
    check_eq("LSTAR", rdmsr(MSR_LSTAR), (u64)syscall_entry);
    check_eq("SFMASK", rdmsr(MSR_SFMASK), RFLAGS_IF | RFLAGS_DF | RFLAGS_TF);
    calls = 0;
    run_user(&trap, user_syscalls, 100);
    check_trap("ten calls and the exit", &trap, VEC_USER_EXIT, 0, NULL, 0);
    check_eq("each came once", calls, 10);
    check_eq("numbers and registers come back", trap.frame.rax, 110 + 0x1111 + 0x2222 + 0x3333);
    check_eq("rcx is the instruction behind", syscall_rcx, (u64)user_after_syscall);
    check_eq("rsp is still the user's", syscall_user_rsp, USER_STACK_TOP);
    check_eq("cs", syscall_cs, KERNEL_CS);
    check_eq("ss", syscall_ss, KERNEL_SS);

    run_user_flags(&trap, user_syscall_state, 0, RFLAGS_IF);
    const u64 seen = RFLAGS_IF | RFLAGS_DF | RFLAGS_CF;
    check_eq("r11 has the flags", syscall_r11 & seen, seen);
    check_eq("SFMASK's are clear in the kernel", syscall_flags & (RFLAGS_IF | RFLAGS_DF), 0);
    if (!skip_on_tcg("others are not"))
        check_eq("others are not", syscall_flags & RFLAGS_CF, RFLAGS_CF);
    check_eq("sysret: flags", trap.frame.rsi & (RFLAGS_IF | RFLAGS_DF), RFLAGS_IF | RFLAGS_DF);
    check_eq("sysret: cs", trap.frame.rbx, USER_CS);
    check_eq("sysret: ss", trap.frame.rdx, USER_SS);
    check_eq("the saved ones agree", trap.frame.cs << 16 | trap.frame.ss, USER_CS << 16 | USER_SS);
}

static void sysenters(void) {
    section("sysenter and sysexit");
    if (!cpu.sysenter || !cpu.intel) {
        skip("sysenter", "in long mode Intel's CPUs have it only");
        return;
    }
    extern const u8 user_sysenter[];
    extern u8 syscall_stack_top[];
    struct trap trap;
    wrmsr(MSR_SYSENTER_CS, 0);
    run_user(&trap, user_sysenter, 0);
    check_trap("#GP(0) while SYSENTER_CS is null", &trap, VEC_GP, 0, NULL, 0);
    wrmsr(MSR_SYSENTER_CS, KERNEL_CS);
    wrmsr(MSR_SYSENTER_ESP, (u64)syscall_stack_top);
    wrmsr(MSR_SYSENTER_EIP, (u64)sysenter_entry);
    run_user_flags(&trap, user_sysenter, 7, RFLAGS_IF);
    check_trap("call and exit", &trap, VEC_USER_EXIT, 0, NULL, 0);
    check_eq("the number", trap.frame.rax, 8);
    check_eq("rsp in the kernel", sysenter_rsp, (u64)syscall_stack_top);
    check_eq("cs in the kernel", syscall_cs, KERNEL_CS);
    check_eq("ss in the kernel", syscall_ss, KERNEL_SS);
    check_eq("IF is clear in the kernel", syscall_flags & RFLAGS_IF, 0);
    check_eq("sysexit: cs", trap.frame.rbx, USER_CS);
    check_eq("sysexit: ss", trap.frame.rsi, USER_SS_SYSEXIT);
    check_eq("sysexit: rsp", trap.frame.rsp, USER_STACK_TOP);
}

void test_syscalls(void) {
    syscalls();
    sysenters();
}
