/* The switches beside the tables: CR0.WP, EFER.NXE, SMEP and SMAP, with the same tables under them. */
#include "pagetables.h"

#include "access.h"
#include "check.h"
#include "features.h"

extern u8 boot_pml4[]; /* boot.S: linked where it is loaded, maps the first GiB at 0, DIRECT_MAP and the higher half */

static const u64 va = (u64)SLOT_RIGHTS << 39;

static void write_protect(void) {
    section("CR0.WP");
    paddr frame = marked_frame(1);
    map_page(kernel_root, va, frame, RO);
    check_eq("WP: store to a read-only page faults", store(va, 2), FAULTED | PF_P | PF_W);
    for (int i = 0; i < 3; i++) {
        write_cr0(read_cr0() & ~(u64)CR0_WP);
        check_eq("no WP: it does not", store(va, 3), 0);
        write_cr0(read_cr0() | CR0_WP);
        check_eq("WP: it does again, at once", store(va, 4), FAULTED | PF_P | PF_W);
    }
    check_eq("what arrived", load(va), 3);
    u64 *pte = table_entry(kernel_root, va, 1);
    *pte = frame | RO | PTE_U;
    invlpg((void *)va);
    write_cr0(read_cr0() & ~(u64)CR0_WP);
    check_eq("no WP: ring 0 stores to a user read-only page", store(va, 5), 0);
    check_eq("ring 3 does not", user_store(va, 6), FAULTED | PF_P | PF_W | PF_U);
    check_eq("the store without WP set D", *pte & PTE_D, PTE_D);
    /* Supervisor, read-only, then user and writable: all while WP is off */
    *pte = frame | USER;
    invlpg((void *)va);
    check_eq("made writable: ring 3 stores", user_store(va, 7), 0);
    write_cr0(read_cr0() | CR0_WP);
    check_eq("and so does ring 0 with WP", store(va, 8), 0);
    *pte = 0;
    invlpg((void *)va);
    frame_free(frame);
}

static void no_execute(void) {
    section("NX and EFER.NXE");
    if (!cpu.nx) {
        skip("NX", "CPUID has none");
        return;
    }
    paddr frame = code_frame(0x42), root = (paddr)boot_pml4;
    map_page(kernel_root, va, frame, RW);
    u64 *pte = table_entry(kernel_root, va, 1), code = words(frame)[0];
    for (int i = 0; i < 2; i++) {
        check_eq("runs", run(va), 0x42);
        *pte |= PTE_NX;
        invlpg((void *)va);
        check_eq("NX: fetch faults", run(va), FAULTED | PF_P | PF_I);
        check_eq("NX: load does not", load(va), code);
        *pte &= ~PTE_NX;
        invlpg((void *)va);
    }
    /* Without EFER.NXE the bit is reserved, and the kernel's own tables are full of it: go to the boot tables first. */
    words(root)[SLOT_RIGHTS] = words(kernel_root)[SLOT_RIGHTS];
    write_cr3(root);
    flush_all(); /* in case something was global */
    check_eq("under the boot tables", run(va), 0x42);
    u64 efer = rdmsr(MSR_EFER);
    wrmsr(MSR_EFER, efer & ~(u64)EFER_NXE);
    flush_all();
    check_eq("without NXE: runs", run(va), 0x42);
    *pte |= PTE_NX;
    invlpg((void *)va);
    u64 reserved = PF_RSVD | (cpu.tcg ? 0 : PF_P); /* TCG (7.2) leaves P out */
    check_eq("without NXE: bit 63 is reserved", load(va), FAULTED | reserved);
    *pte &= ~PTE_NX;
    check_eq("without NXE: the fetch bit of error codes is off", run(va + PAGE_SIZE), FAULTED);
    wrmsr(MSR_EFER, efer);
    flush_all();
    check_eq("with NXE: the fetch bit is on", run(va + PAGE_SIZE), FAULTED | PF_I);
    *pte |= PTE_NX;
    invlpg((void *)va);
    check_eq("with NXE: NX again", run(va), FAULTED | PF_P | PF_I);
    check_eq("with NXE: load", load(va), code);
    write_cr3(kernel_root);
    words(root)[SLOT_RIGHTS] = 0;
    *pte = 0;
    invlpg((void *)va);
    frame_free(frame);
}

static void supervisor_prevention(void) {
    section("SMEP and SMAP with tables that change");
    paddr frame = code_frame(0x43);
    u64 code = words(frame)[0];
    map_page(kernel_root, va, frame, USER);
    u64 *pte = table_entry(kernel_root, va, 1);
    check_eq("ring 0 runs a user page", run(va), 0x43);
    if (cpu.smep) {
        write_cr4(read_cr4() | CR4_SMEP);
        check_eq("SMEP: not any more", run(va), FAULTED | PF_P | PF_I);
        *pte &= ~PTE_U;
        invlpg((void *)va);
        check_eq("SMEP: made supervisor, it runs", run(va), 0x43);
        *pte |= PTE_U;
        invlpg((void *)va);
        check_eq("SMEP: made user, it does not", run(va), FAULTED | PF_P | PF_I);
        write_cr4(read_cr4() & ~(u64)CR4_SMEP);
        check_eq("SMEP off: it runs", run(va), 0x43);
    } else {
        skip("SMEP", "CPUID has none");
    }
    if (cpu.smap) {
        write_cr4(read_cr4() | CR4_SMAP);
        check_eq("SMAP: ring 0 cannot load", load(va), FAULTED | PF_P);
        check_eq("SMAP: ring 0 cannot store", store(va + 64, 1), FAULTED | PF_P | PF_W);
        stac();
        u64 seen = *(volatile u64 *)va;
        clac();
        check_eq("SMAP: with AC it can", seen, code);
        *pte &= ~PTE_U;
        invlpg((void *)va);
        check_eq("SMAP: made supervisor, it can", load(va), code);
        *table_entry(kernel_root, va, 2) &= ~PTE_U;
        *pte |= PTE_U;
        invlpg((void *)va);
        check_eq("SMAP: supervisor in the PDE is supervisor", load(va), code);
        *table_entry(kernel_root, va, 2) |= PTE_U;
        invlpg((void *)va);
        check_eq("SMAP: user on every level again", load(va), FAULTED | PF_P);
        write_cr4(read_cr4() & ~(u64)CR4_SMAP);
        check_eq("SMAP off: ring 0 loads", load(va), code);
    } else {
        skip("SMAP", "CPUID has none");
    }
    *pte = 0;
    invlpg((void *)va);
    frame_free(frame);
}

void test_rights(void) {
    write_protect();
    no_execute();
    supervisor_prevention();
}
