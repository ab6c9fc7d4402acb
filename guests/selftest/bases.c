/* FS and GS bases: MSRs, swapgs, the FSGSBASE instructions. */
#include "selftest.h"

#include "check.h"
#include "features.h"
#include "paging.h"
#include "segments.h"
#include "user.h"

static u64 kernel_block[4] = {0x1001, 0x1002, 0x1003, 0x1004}, other_block[4] = {0x2001, 0x2002, 0x2003, 0x2004};

static u64 fs_word(void) {
    u64 value;
    __asm__ volatile("mov %%fs:8, %0" : "=r"(value));
    return value;
}
static u64 gs_word(void) {
    u64 value;
    __asm__ volatile("mov %%gs:8, %0" : "=r"(value));
    return value;
}

static void in_ring_0(void) {
    section("FS and GS in ring 0");
    wrmsr(MSR_FS_BASE, (u64)kernel_block);
    check_eq("FS base by its MSR", fs_word(), 0x1002);
    check_eq("and reads back", rdmsr(MSR_FS_BASE), (u64)kernel_block);
    wrmsr(MSR_GS_BASE, (u64)kernel_block);
    wrmsr(MSR_KERNEL_GS_BASE, (u64)other_block);
    check_eq("GS base by its MSR", gs_word(), 0x1002);
    __asm__ volatile("swapgs");
    check_eq("swapgs: the other block", gs_word(), 0x2002);
    check_eq("swapgs: GS base", rdmsr(MSR_GS_BASE), (u64)other_block);
    check_eq("swapgs: kernel GS base", rdmsr(MSR_KERNEL_GS_BASE), (u64)kernel_block);
    __asm__ volatile("movq $0x3333, %%gs:16" : : : "memory");
    check_eq("a store through GS", other_block[2], 0x3333);
    __asm__ volatile("swapgs");
    check_eq("swapgs back", gs_word(), 0x1002);
    u64 address;
    __asm__ volatile(".byte 0x65; lea 8, %0" : "=r"(address));
    check_eq("lea leaves the base out", address, 8);
    __asm__ volatile("mov %0, %%fs" : : "r"(KERNEL_SS));
    check_eq("loading FS from the GDT takes its base from there", rdmsr(MSR_FS_BASE), 0);
    __asm__ volatile("mov %0, %%fs" : : "r"(0));
    wrmsr(MSR_FS_BASE, 0xffff888000000000);
    check_eq("a base in the higher half", rdmsr(MSR_FS_BASE), 0xffff888000000000);
    wrmsr(MSR_FS_BASE, 0);
}

static void in_ring_3(void) {
    section("FS and GS in ring 3");
    extern const u8 user_read_fs[], user_read_gs[], user_null_fs[], user_syscalls[], swapgs_entry[];
    u64 *block = (u64 *)(USER_STACK_TOP - PAGE_SIZE);
    struct trap trap;
    block[0] = 0x4001;
    block[1] = 0x4002;
    wrmsr(MSR_FS_BASE, (u64)block);
    wrmsr(MSR_GS_BASE, (u64)block);
    run_user(&trap, user_read_fs, 0);
    check_eq("fs:0", trap.frame.rax, 0x4001);
    check_eq("fs:8", trap.frame.rbx, 0x4002);
    check_eq("the FS base is as it was", rdmsr(MSR_FS_BASE), (u64)block);
    run_user(&trap, user_read_gs, 8);
    check_eq("gs:0", trap.frame.rax, 0x4001);
    check_eq("gs:(rdi)", trap.frame.rbx, 0x4002);
    run_user(&trap, user_null_fs, 0);
    check_eq("a null FS selector", trap.frame.rcx, 0);

    if (cpu.syscall) {
        /* User GS base in GS, the kernel's in KERNEL_GS_BASE; the entry swaps, reads its own block, swaps back */
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
        wrmsr(MSR_KERNEL_GS_BASE, (u64)kernel_block);
        wrmsr(MSR_LSTAR, (u64)swapgs_entry);
        run_user(&trap, user_syscalls, 0);
        check_eq("the kernel's GS in a system call", trap.frame.rax, 0x1001 + 0x1111 + 0x2222 + 0x3333);
        check_eq("the user's GS base afterwards", rdmsr(MSR_GS_BASE), (u64)block);
    }
    wrmsr(MSR_GS_BASE, 0);
    wrmsr(MSR_FS_BASE, 0);
}

static void instructions(void) {
    section("rdfsbase and wrfsbase");
    extern const u8 user_write_fs_base[];
    u64 *block = (u64 *)(USER_STACK_TOP - PAGE_SIZE), value;
    struct trap trap;
    if (!cpu.fsgsbase) {
        skip("rdfsbase and wrfsbase", "CPUID has none");
        return;
    }
    run_user(&trap, user_write_fs_base, (u64)block);
    check_trap("#UD without CR4.FSGSBASE", &trap, VEC_UD, 0, user_write_fs_base, 0);
    write_cr4(read_cr4() | CR4_FSGSBASE);
    wrmsr(MSR_GS_BASE, 0x5678);
    run_user(&trap, user_write_fs_base, (u64)block);
    check_eq("wrfsbase in ring 3", trap.frame.rax, 0x4001);
    check_eq("rdfsbase in ring 3", trap.frame.rbx, (u64)block);
    check_eq("rdgsbase in ring 3", trap.frame.rcx, 0x5678);
    check_eq("the MSR has it, too", rdmsr(MSR_FS_BASE), (u64)block);
    __asm__ volatile("wrgsbase %1; rdgsbase %0" : "=r"(value) : "r"(kernel_block));
    check_eq("wrgsbase in ring 0", value, (u64)kernel_block);
    check_eq("a load through it", gs_word(), 0x1002);
    wrmsr(MSR_GS_BASE, 0);
    wrmsr(MSR_FS_BASE, 0);
    write_cr4(read_cr4() & ~(u64)CR4_FSGSBASE);
}

void test_segment_bases(void) {
    in_ring_0();
    in_ring_3();
    instructions();
}
