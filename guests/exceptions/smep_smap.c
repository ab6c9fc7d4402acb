/* Supervisor mode execution and access prevention. The page is the user stack's, the code user_ret. */
#include "exceptions.h"

#include "check.h"
#include "features.h"
#include "paging.h"
#include "specimen.h"

void k_call_there(u64 target);
void user_ret(void);

static void smep(void) {
    section("SMEP");
    u64 target = (u64)user_ret;
    expect_no_trap("ring 0 runs user code without SMEP", k_call_there, target);
    if (!cpu.smep) {
        skip("SMEP", "CPUID has none");
        return;
    }
    write_cr4(read_cr4() | CR4_SMEP);
    expect_page_fault("ring 0 fetches from a user page", k_call_there, target, PF_P | PF_I, (void *)target, target);
    KERNEL_RUNS("ring 0 reads it", read_from_user, target);
    USER_RUNS("ring 3 runs it", x87_reset, 0);
    write_cr4(read_cr4() & ~(u64)CR4_SMEP);
    expect_no_trap("and again without SMEP", k_call_there, target);
}

static void smap(void) {
    section("SMAP");
    u64 va = USER_STACK_TOP - 64;
    KERNEL_RUNS("ring 0 reads a user page without SMAP", read_from_user, va);
    if (!cpu.smap) {
        skip("SMAP", "CPUID has none");
        return;
    }
    write_cr4(read_cr4() | CR4_SMAP);
    clac();
    KERNEL_PAGE_FAULT("ring 0 reads a user page", read_from_user, va, PF_P, va);
    KERNEL_PAGE_FAULT("ring 0 writes a user page", write_to_user, va, PF_P | PF_W, va);
    KERNEL_PAGE_FAULT("ring 0 copies from a user page", copy_from_user, va, PF_P, va);
    KERNEL_RUNS("stac lets it read", stac_read, va);
    KERNEL_RUNS("popf with AC lets it read", popf_ac_read, va);
    KERNEL_PAGE_FAULT("and clac forbids it again", read_from_user, va, PF_P, va);
    USER_RUNS("ring 3 reads its page", read, va);
    write_cr4(read_cr4() & ~(u64)CR4_SMAP);
    KERNEL_RUNS("and again without SMAP", read_from_user, va);
}

void test_smep_smap(void) {
    smep();
    smap();
}
