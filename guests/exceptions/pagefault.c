#include "exceptions.h"

#include "check.h"
#include "features.h"
#include "paging.h"
#include "segments.h"
#include "specimen.h"

/* The test pages, in this order from TEST_VA on. */
enum page { ABSENT, SUP_RO, SUP_RW, USER_RO, USER_RW, USER_NX, RESERVED, BEHIND, PAGES };

static u64 at(enum page page) { return TEST_VA + page * PAGE_SIZE; }

void k_jump(u64 target);
extern const u8 u_jump[];

static void jump_faults(const char *name, u64 target, u64 error) {
    expect_page_fault(name, k_jump, target, error, (void *)target, target);
}
static void user_jump_faults(const char *name, u64 target, u64 error) {
    expect_user_page_fault(name, u_jump, target, error, (void *)target, target);
}

static void map_test_pages(void) {
    const u64 nx = cpu.nx ? PTE_NX : 0;
    static const u64 flags[PAGES] = {
        [SUP_RO] = PTE_P,
        [SUP_RW] = PTE_P | PTE_W,
        [USER_RO] = PTE_P | PTE_U,
        [USER_RW] = PTE_P | PTE_U | PTE_W,
        [USER_NX] = PTE_P | PTE_U | PTE_W,
        [RESERVED] = PTE_P | PTE_U | PTE_W,
        [BEHIND] = PTE_P | PTE_U | PTE_W,
    };
    for (enum page page = ABSENT; page < PAGES; page++)
        map_page(kernel_root, at(page), frame_alloc(), flags[page]);
    *table_entry(kernel_root, at(USER_NX), 1) |= nx;
    *table_entry(kernel_root, at(RESERVED), 1) |= 1ull << 51;
}

static void supervisor_faults(u64 fetch) {
    section("#PF from ring 0");
    KERNEL_PAGE_FAULT("read, not present", read, at(ABSENT) + 8, 0, at(ABSENT) + 8);
    KERNEL_PAGE_FAULT("write, not present", write, at(ABSENT) + 0xff8, PF_W, at(ABSENT) + 0xff8);
    if (!skip_on_tcg("read-modify-write, not present: counts as a write"))
        KERNEL_PAGE_FAULT("read-modify-write, not present", read_modify_write, at(ABSENT), PF_W, at(ABSENT));
    jump_faults("fetch, not present", at(ABSENT) + 5, fetch);
    KERNEL_RUNS("read of a read-only page", read, at(SUP_RO));
    KERNEL_PAGE_FAULT("write to a read-only page", write, at(SUP_RO) + 4, PF_P | PF_W, at(SUP_RO) + 4);
    KERNEL_PAGE_FAULT("write to a user read-only page", write, at(USER_RO), PF_P | PF_W, at(USER_RO));
    KERNEL_PAGE_FAULT("failing cmpxchg on a read-only page", compare_exchange, at(SUP_RO), PF_P | PF_W, at(SUP_RO));
    write_cr0(read_cr0() & ~(u64)CR0_WP);
    KERNEL_RUNS("write to a read-only page without CR0.WP", write_all_ones, at(SUP_RO));
    KERNEL_RUNS("write to a user read-only page without CR0.WP", write_all_ones, at(USER_RO));
    write_cr0(read_cr0() | CR0_WP);
    KERNEL_PAGE_FAULT("and with it again", write, at(SUP_RO), PF_P | PF_W, at(SUP_RO));
    check_eq("the write arrived", *(volatile u64 *)at(SUP_RO), ~0ull);
    KERNEL_RUNS("write to a user page", write, at(USER_RW));
    if (cpu.nx)
        jump_faults("fetch from a no-execute page", at(USER_NX), PF_P | PF_I);
    else
        skip("fetch from a no-execute page", "no NX");
}

static void user_faults(u64 fetch) {
    section("#PF from ring 3");
    USER_PAGE_FAULT("read, not present", read, at(ABSENT) + 1, PF_U, at(ABSENT) + 1);
    USER_PAGE_FAULT("write, not present", write, at(ABSENT) + 2, PF_U | PF_W, at(ABSENT) + 2);
    user_jump_faults("fetch, not present", at(ABSENT), PF_U | fetch);
    USER_PAGE_FAULT("read of a supervisor page", read, at(SUP_RW) + 3, PF_P | PF_U, at(SUP_RW) + 3);
    USER_PAGE_FAULT("write to a supervisor page", write, at(SUP_RW), PF_P | PF_U | PF_W, at(SUP_RW));
    user_jump_faults("fetch from a supervisor page", at(SUP_RW), PF_P | PF_U | fetch);
    USER_PAGE_FAULT("read of kernel text", read, (u64)&check, PF_P | PF_U, (u64)&check);
    USER_RUNS("read of a user read-only page", read, at(USER_RO));
    USER_PAGE_FAULT("write to a user read-only page", write, at(USER_RO), PF_P | PF_U | PF_W, at(USER_RO));
    write_cr0(read_cr0() & ~(u64)CR0_WP);
    USER_PAGE_FAULT("which CR0.WP does not change", write, at(USER_RO), PF_P | PF_U | PF_W, at(USER_RO));
    write_cr0(read_cr0() | CR0_WP);
    USER_RUNS("write to a user page", write, at(USER_RW));
    USER_RUNS("write to a no-execute page", write, at(USER_NX));
    if (cpu.nx)
        user_jump_faults("fetch from a no-execute page", at(USER_NX), PF_P | PF_U | PF_I);
}

static void reserved_bits(void) {
    section("#PF: reserved bits");
    const u64 reserved = PF_RSVD | (cpu.tcg ? 0 : PF_P); /* RSVD goes with P; TCG (7.2) leaves P out */
    if (cpu.physical_bits < 52) {
        KERNEL_PAGE_FAULT("read in ring 0", read, at(RESERVED), reserved, at(RESERVED));
        KERNEL_PAGE_FAULT("write in ring 0", write, at(RESERVED), reserved | PF_W, at(RESERVED));
        USER_PAGE_FAULT("write in ring 3", write, at(RESERVED), reserved | PF_W | PF_U, at(RESERVED));
    } else {
        skip("address bit 51", "it is no reserved bit of this CPU");
    }
    u64 *pml4e = table_entry(kernel_root, TEST_VA, 4);
    *pml4e |= PTE_PS;
    flush_all();
    KERNEL_PAGE_FAULT("PS in a PML4 entry", read, at(USER_RW), reserved, at(USER_RW));
    *pml4e &= ~PTE_PS;
    u64 *pde = table_entry(kernel_root, TEST_VA, 2), saved = *pde;
    *pde = PAGE_SIZE | PTE_P | PTE_W | PTE_PS | 1 << 13; /* bits 13 to 20 of a 2 MiB page's entry */
    flush_all();
    KERNEL_PAGE_FAULT("a 2 MiB page that is not aligned", read, at(USER_RW), reserved, at(USER_RW));
    *pde = saved;
    flush_all();
    KERNEL_RUNS("read after all is as it was", read, at(USER_RW));
}

/* What every level says counts, not only the last. */
static void upper_levels(void) {
    section("#PF: rights of upper levels");
    static const char *const no_user[] = {"", "", "U clear in the PDE", "U clear in the PDPTE", "U clear in the PML4E"};
    static const char *const no_write[] = {"", "", "W clear in the PDE", "W clear in the PDPTE", "W clear in the PML4E"};
    static const char *const no_fetch[] = {"", "", "NX in the PDE", "NX in the PDPTE", "NX in the PML4E"};
    for (int level = 2; level <= 4; level++) {
        u64 *entry = table_entry(kernel_root, TEST_VA, level), saved = *entry;
        *entry = saved & ~PTE_U;
        flush_all();
        USER_PAGE_FAULT(no_user[level], read, at(USER_RW), PF_P | PF_U, at(USER_RW));
        *entry = saved & ~PTE_W;
        flush_all();
        KERNEL_PAGE_FAULT(no_write[level], write, at(USER_RW), PF_P | PF_W, at(USER_RW));
        if (cpu.nx) {
            *entry = saved | PTE_NX;
            flush_all();
            user_jump_faults(no_fetch[level], at(USER_RW), PF_P | PF_U | PF_I);
        }
        *entry = saved;
        flush_all();
    }
}

/* What is left in memory and registers by an instruction that faults in the middle. USER_RW is followed by USER_NX,
 * which is made not present here. */
static void precise_state(void) {
    section("#PF: half-done instructions");
    const u64 end = at(USER_RW) + PAGE_SIZE;
    u64 *behind = table_entry(kernel_root, end, 1), saved = *behind;
    *behind = 0;
    invlpg((void *)end);
    KERNEL_PAGE_FAULT("read over a page's end: CR2 is the next page", read, end - 3, 0, end);
    USER_PAGE_FAULT("write over a page's end: CR2 is the next page", write, end - 5, PF_U | PF_W, end);
    *(volatile u64 *)(end - 8) = 0x1122334455667788;
    *behind = (saved & ~PTE_W) | PTE_P;
    USER_PAGE_FAULT("write over the end into a read-only page", write_all_ones, end - 4, PF_P | PF_U | PF_W, end);
    check_eq("has written nothing to the first page", *(volatile u64 *)(end - 8), 0x1122334455667788);
    *behind = 0;
    invlpg((void *)end);

    struct trap trap;
    extern const u8 u_rep_movsb[], u_rep_movsb_at[], u_exchange[], u_exchange_at[], u_push_there[], u_push_there_at[],
        u_call_there[], u_call_there_at[], u_pop_there[], u_pop_there_at[], u_rep_stosq_down[], u_rep_stosq_down_at[];
    run_user(&trap, u_rep_movsb, end - 16);
    check_trap("rep movsb into a page that is not there", &trap, VEC_PF, PF_U | PF_W, u_rep_movsb_at, end);
    check_eq("rcx counts what is left", trap.frame.rcx, 16);
    check_eq("rdi is the faulting address", trap.frame.rdi, end);
    check_eq("rsi has moved as far", trap.frame.rsi, USER_STACK_TOP - 64 + 16);
    *behind = saved;
    *table_entry(kernel_root, at(USER_RW), 1) &= ~PTE_P;
    invlpg((void *)at(USER_RW));
    run_user(&trap, u_rep_stosq_down, end + 8);
    check_trap("rep stosq downwards", &trap, VEC_PF, PF_U | PF_W, u_rep_stosq_down_at, end - 8);
    check_eq("rcx counts what is left, downwards", trap.frame.rcx, 2);
    check_eq("DF is in the saved flags", trap.frame.rflags & RFLAGS_DF, RFLAGS_DF);
    *table_entry(kernel_root, at(USER_RW), 1) |= PTE_P;
    *behind = 0;
    invlpg((void *)end);

    run_user(&trap, u_exchange, at(USER_RO));
    check_trap("xchg with a read-only page", &trap, VEC_PF, PF_P | PF_U | PF_W, u_exchange_at, at(USER_RO));
    check_eq("has not changed its register", trap.frame.rax, 0x1234);
    run_user(&trap, u_push_there, end + 8);
    check_trap("push to a page that is not there", &trap, VEC_PF, PF_U | PF_W, u_push_there_at, end);
    check_eq("has not moved rsp", trap.frame.rsp, end + 8);
    run_user(&trap, u_call_there, end + 8);
    check_trap("call with its stack not there", &trap, VEC_PF, PF_U | PF_W, u_call_there_at, end);
    check_eq("has not moved rsp", trap.frame.rsp, end + 8);
    run_user(&trap, u_pop_there, at(ABSENT));
    check_trap("pop to memory that is not there", &trap, VEC_PF, PF_U | PF_W, u_pop_there_at, at(ABSENT));
    check_eq("has not moved rsp", trap.frame.rsp, USER_STACK_TOP - 8);

    /* An instruction of 5 bytes (mov $imm32, %eax) of which 3 are in the first page */
    static const u8 mov_eax[] = {0xb8, 0x78, 0x56};
    for (int i = 0; i < 3; i++)
        *(volatile u8 *)(end - 3 + (u64)i) = mov_eax[i];
    expect_user_page_fault("fetch over a page's end: RIP here, CR2 there", u_jump, end - 3, PF_U | (cpu.nx ? PF_I : 0),
                           (void *)(end - 3), end);
    *behind = saved;
}

/* The CPU's own accesses count as ring 0 whatever the CPL. */
static void implicit_accesses(void) {
    section("#PF: the CPU's own accesses");
    u64 end = at(SUP_RW) + PAGE_SIZE;
    u64 *copy = (u64 *)(end - GDT_LIMIT - 1), *behind = table_entry(kernel_root, end, 1), saved = *behind;
    for (unsigned i = 0; i <= GDT_LIMIT / 8; i++)
        copy[i] = gdt[i];
    *behind = 0;
    invlpg((void *)end);
    struct table_register longer = {GDT_LIMIT + 16, (u64)copy}, normal = {GDT_LIMIT, (u64)gdt};
    __asm__ volatile("lgdt %0" : : "m"(longer));
    USER_PAGE_FAULT("a descriptor that is not there, wanted by ring 3", user_load_ds, GDT_LIMIT + 1 + 8 + 3, 0, end + 8);
    __asm__ volatile("lgdt %0" : : "m"(normal));
    *behind = saved;
}

void test_page_faults(void) {
    u64 fetch = cpu.nx ? PF_I : 0; /* the I bit exists with EFER.NXE (or SMEP) only */
    map_test_pages();
    *table_entry(kernel_root, at(ABSENT), 1) = 0;
    supervisor_faults(fetch);
    user_faults(fetch);
    reserved_bits();
    upper_levels();
    precise_state();
    implicit_accesses();
}
