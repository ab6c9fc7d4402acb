/* Several roots: switches of CR3, and global pages, which survive them. */
#include "pagetables.h"

#include "access.h"
#include "check.h"
#include "features.h"

static const u64 va = (u64)SLOT_SPACES << 39;

static void two_roots(void) {
    section("two roots");
    paddr other = new_root(), a = marked_frame(0xa1), b = marked_frame(0xb1);
    map_page(kernel_root, va, a, RW);
    map_page(other, va, b, RW);
    check_eq("this root's page", load(va), 0xa1);
    write_cr3(other);
    check_eq("the other root's page at the same address", load(va), 0xb1);
    check_eq("store in the other", store(va, 0xb2), 0);
    write_cr3(kernel_root);
    check_eq("back: this root's page", load(va), 0xa1);
    check_eq("the store went to the other's frame", words(b)[0], 0xb2);

    /* Edits of a root that is not the current one */
    *table_entry(other, va, 1) = a | RO;
    write_cr3(other);
    check_eq("edited while away: new frame", load(va), 0xa1);
    check_eq("edited while away: new rights", store(va, 1), FAULTED | PF_P | PF_W);
    *table_entry(kernel_root, va, 1) = 0;
    write_cr3(kernel_root);
    check_eq("unmapped while away", load(va), FAULTED);
    *table_entry(kernel_root, va, 1) = a | RW;
    map_page(other, va + PAGE_SIZE, b, RW);
    check_eq("a page of the other root only", load(va + PAGE_SIZE), FAULTED);
    write_cr3(other);
    check_eq("is there, there", load(va + PAGE_SIZE), 0xb2);

    /* Tables under both roots: the kernel half is the same, so one edit counts in both */
    *table_entry(other, va, 4) = *table_entry(kernel_root, va, 4);
    write_cr3(other);
    check_eq("a subtree shared by both", store(va, 0xa2), 0);
    *table_entry(kernel_root, va, 1) = b | RW;
    write_cr3(kernel_root);
    check_eq("edited under the other: counts in this", load(va), 0xb2);
    write_cr3(other);
    check_eq("and in the other", load(va), 0xb2);
    write_cr3(kernel_root);
    *table_entry(kernel_root, va, 1) = 0;
    invlpg((void *)va);
    frame_free(other);
    frame_free(a);
    frame_free(b);
}

static void many_roots(void) {
    section("many roots in turn");
    enum { ROOTS = 6, ROUNDS = 4 };
    paddr roots[ROOTS], frames[ROOTS];
    for (u64 i = 0; i < ROOTS; i++) {
        roots[i] = new_root();
        frames[i] = marked_frame(i * 100);
        map_page(roots[i], va, frames[i], RW);
    }
    unsigned right = 0;
    for (u64 round = 0; round < ROUNDS; round++)
        for (u64 i = 0; i < ROOTS; i++) {
            write_cr3(roots[i]);
            right += load(va) == i * 100 + round;
            store(va, i * 100 + round + 1);
        }
    write_cr3(kernel_root);
    check_eq("each has its own page, round after round", right, ROOTS * ROUNDS);
    /* A root's frame that becomes another root */
    words(roots[0])[SLOT_SPACES] = words(roots[1])[SLOT_SPACES];
    write_cr3(roots[0]);
    check_eq("a root turned into another's copy", load(va), 100 + ROUNDS);
    write_cr3(kernel_root);
    for (unsigned i = 0; i < ROOTS; i++) {
        frame_free(roots[i]);
        frame_free(frames[i]);
    }
}

static void global_pages(void) {
    section("global pages");
    if (!cpu.global_pages) {
        skip("global pages", "CPUID has none");
        return;
    }
    paddr a = marked_frame(0x6a), b = marked_frame(0x6b);
    map_page(kernel_root, va, a, RW | PTE_G);
    u64 *pte = table_entry(kernel_root, va, 1);
    check_eq("a global page", load(va), 0x6a);
    *pte = b | RW | PTE_G;
    write_cr3(read_cr3());
    u64 seen = load(va);
    check("after a load of CR3: old or new", seen == 0x6a || seen == 0x6b);
    write_cr4(read_cr4() & ~(u64)CR4_PGE);
    check_eq("after CR4.PGE off: new", load(va), 0x6b);
    *pte = a | RW | PTE_G;
    write_cr3(read_cr3());
    check_eq("without PGE a load of CR3 flushes it", load(va), 0x6a);
    write_cr4(read_cr4() | CR4_PGE);
    check_eq("with PGE on again", load(va), 0x6a);
    *pte = b | RW | PTE_G;
    invlpg((void *)va);
    check_eq("invlpg flushes it", load(va), 0x6b);

    paddr other = new_root();
    map_page(other, va, a, RW | PTE_G);
    write_cr3(other);
    seen = load(va);
    check("another global page at the same address: either", seen == 0x6a || seen == 0x6b);
    flush_all();
    check_eq("after the toggle of PGE: this root's", load(va), 0x6a);
    write_cr3(kernel_root);
    flush_all();
    check_eq("and back", load(va), 0x6b);
    *pte = 0;
    invlpg((void *)va);
    frame_free(other);
    frame_free(a);
    frame_free(b);
}

void test_address_spaces(void) {
    two_roots();
    many_roots();
    global_pages();
}
