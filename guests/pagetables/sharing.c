/* One frame or one table at several places: aliases, shared tables, and a table that maps itself. */
#include "pagetables.h"

#include "access.h"
#include "check.h"

static const u64 va = (u64)SLOT_SHARING << 39;

static void aliases(void) {
    section("aliases of a frame");
    paddr frame = marked_frame(1);
    u64 second = va + 5 * PAGE_SIZE, read_only = va + PAGE_2M;
    map_page(kernel_root, va, frame, RW);
    map_page(kernel_root, second, frame, RW);
    map_page(kernel_root, read_only, frame, RO);
    store(va, 0x1111);
    check_eq("a store by one is seen by the other", load(second), 0x1111);
    check_eq("and by the read-only one", load(read_only), 0x1111);
    check_eq("which cannot store", store(read_only, 2), FAULTED | PF_P | PF_W);
    check_eq("the writable one still can", store(second, 0x2222), 0);
    check_eq("seen by the first", load(va), 0x2222);
    *table_entry(kernel_root, va, 1) = 0;
    invlpg((void *)va);
    check_eq("one unmapped: gone", load(va), FAULTED);
    check_eq("the other stays", load(second), 0x2222);
    *table_entry(kernel_root, second, 1) = 0;
    *table_entry(kernel_root, read_only, 1) = 0;
    write_cr3(read_cr3());
    frame_free(frame);
}

static void shared_tables(void) {
    section("one page table in two places");
    paddr a = marked_frame(0xa), b = marked_frame(0xb);
    u64 twin = va + 3 * PAGE_2M;
    map_page(kernel_root, va, a, RW);
    *make_entry(kernel_root, twin, 2) = *table_entry(kernel_root, va, 2);
    check_eq("seen in both: first", load(va), 0xa);
    check_eq("seen in both: second", load(twin), 0xa);
    *table_entry(kernel_root, twin, 1) = b | RW;
    invlpg((void *)va);
    invlpg((void *)twin);
    check_eq("one edit, invlpg of both: first", load(va), 0xb);
    check_eq("one edit, invlpg of both: second", load(twin), 0xb);
    u64 *pte = table_entry(kernel_root, va, 1);
    *pte &= ~(PTE_A | PTE_D);
    invlpg((void *)va);
    invlpg((void *)twin);
    store(twin, 0xc);
    check_eq("A and D are set once for both", *pte & (PTE_A | PTE_D), PTE_A | PTE_D);

    /* Rights come from the way that leads there */
    *table_entry(kernel_root, twin, 2) &= ~PTE_W;
    invlpg((void *)twin);
    check_eq("read-only by the second way", store(twin, 1), FAULTED | PF_P | PF_W);
    check_eq("writable by the first", store(va, 0xd), 0);
    check_eq("and seen by the second", load(twin), 0xd);

    u64 far_twin = va + 7 * PAGE_1G;
    *make_entry(kernel_root, far_twin, 3) = *table_entry(kernel_root, va, 3);
    check_eq("one page directory in two places", load(far_twin), 0xd);
    *table_entry(kernel_root, far_twin, 3) = 0;
    *table_entry(kernel_root, twin, 2) = 0;
    *pte = 0;
    write_cr3(read_cr3());
    check_eq("all gone: first", load(va), FAULTED);
    check_eq("all gone: second", load(twin), FAULTED);
    check_eq("all gone: third", load(far_twin), FAULTED);
    frame_free(a);
    frame_free(b);
}

/* In a root that maps itself, the entry of `address` at a level is memory: walking through the slot once more stops the
 * walk one level early. */
static u64 recursive_address(u64 address, int level) {
    u64 slot = SLOT_RECURSIVE, sign = 0xffff000000000000, result = address & ~sign;
    for (int i = 0; i < level; i++)
        result = result >> 9 | slot << 39;
    return result & ~7ull;
}

static void recursive(void) {
    section("a table that maps itself");
    u64 *pml4 = words(kernel_root), target = va + 0x123000;
    paddr a = marked_frame(0x1a), b = marked_frame(0x1b);
    pml4[SLOT_RECURSIVE] = kernel_root | RW;
    map_page(kernel_root, target, a, RW);
    u64 pte_va = recursive_address(target, 1), pde_va = recursive_address(target, 2);
    check_eq("the PTE is where the slot says", load(pte_va) & PTE_ADDRESS, a);
    check_eq("so is the PDE", load(pde_va), *table_entry(kernel_root, target, 2));
    check_eq("so is the PML4E", load(recursive_address(target, 4)), *table_entry(kernel_root, target, 4));
    check_eq("the page itself", load(target), 0x1a);
    check_eq("edit the PTE there", store(pte_va, b | RW), 0);
    invlpg((void *)target);
    check_eq("it counts", load(target), 0x1b);
    check_eq("unmap it there", store(pte_va, 0), 0);
    invlpg((void *)target);
    check_eq("it is gone", load(target), FAULTED);

    /* The PDE is the last entry of the walk to pte_va: for that access it is a leaf, and gets D */
    u64 *pde = table_entry(kernel_root, target, 2);
    *pde &= ~(PTE_A | PTE_D);
    write_cr3(read_cr3());
    load(pte_va);
    check_eq("a load of the PTE sets A in the PDE", *pde & (PTE_A | PTE_D), PTE_A);
    store(pte_va, a | RW);
    check_eq("a store to it sets D in the PDE", *pde & (PTE_A | PTE_D), PTE_A | PTE_D);
    check_eq("and maps", load(target), 0x1a);

    /* Build a whole new branch through the slot alone: a PDPT, a PD and a PT, top down */
    u64 fresh = slot_va(SLOT_SHARING + 1) + 5 * PAGE_1G + 9 * PAGE_2M + 11 * PAGE_SIZE;
    for (int level = 4; level >= 2; level--) {
        check_eq("a table of the new branch", store(recursive_address(fresh, level), frame_alloc() | RW), 0);
        invlpg((void *)recursive_address(fresh, level - 1));
    }
    check_eq("its PTE", store(recursive_address(fresh, 1), b | RW), 0);
    check_eq("a branch built through the slot", load(fresh), 0x1b);
    check_eq("store to the PML4 through the slot", store(recursive_address(fresh, 4), 0), 0);
    write_cr3(read_cr3());
    check_eq("cuts it off", load(fresh), FAULTED);

    check_eq("a read-only slot", store(recursive_address(0, 4) + 8 * SLOT_RECURSIVE, kernel_root | RO), 0);
    write_cr3(read_cr3());
    check_eq("forbids edits", store(pte_va, 0), FAULTED | PF_P | PF_W);
    pml4[SLOT_RECURSIVE] = 0;
    *table_entry(kernel_root, target, 1) = 0;
    write_cr3(read_cr3());
    check_eq("and without the slot nothing is there", load(pte_va), FAULTED);
    frame_free(a);
    frame_free(b);
}

void test_sharing(void) {
    aliases();
    shared_tables();
    recursive();
}
