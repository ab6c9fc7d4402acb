/* A and D: which access sets which bit, at which level, and nothing else. Bits are cleared with invlpg or a load of CR3
 * after it, since the CPU may remember having set them. */
#include "pagetables.h"

#include "access.h"
#include "check.h"
#include "features.h"

static const u64 va = (u64)SLOT_ACCESSED << 39;

static void clear_bits(u64 address, int leaf) {
    for (int level = leaf; level <= 4; level++)
        *table_entry(kernel_root, address, level) &= ~(PTE_A | PTE_D);
    write_cr3(read_cr3());
    invlpg((void *)address);
}

static u64 bits(u64 address, int level) { return *table_entry(kernel_root, address, level) & (PTE_A | PTE_D); }

/* One line for all levels: leaf's bits in the low byte, then the levels above. */
static u64 all_bits(u64 address, int leaf) {
    u64 result = 0;
    for (int level = leaf; level <= 4; level++)
        result |= bits(address, level) << (8 * (level - leaf));
    return result;
}

#define ABOVE(levels) ((0x202020ull & ((1ull << 8 * (levels)) - 1)) << 8)

static void small_pages(void) {
    section("A and D of 4 KiB pages");
    paddr frame = code_frame(3), other = frame_alloc();
    const u64 software = 0x0010000000000600, neighbour = va + PAGE_SIZE;
    map_page(kernel_root, va, frame, RW | software);
    map_page(kernel_root, neighbour, other, RW);
    clear_bits(va, 1);
    check_eq("a map sets nothing", all_bits(va, 1), 0);
    load(va);
    check_eq("a load sets A on every level, no D", all_bits(va, 1), PTE_A | ABOVE(3));
    check_eq("and nothing for the page beside it", bits(neighbour, 1), 0);
    store(va + 16, 1);
    check_eq("a store sets D of the page only", all_bits(va, 1), PTE_A | PTE_D | ABOVE(3));
    check_eq("the other bits are as they were", *table_entry(kernel_root, va, 1) & ~(PTE_A | PTE_D), frame | RW | software);

    clear_bits(va, 1);
    store(va + 16, 2);
    check_eq("a store alone sets A and D", all_bits(va, 1), PTE_A | PTE_D | ABOVE(3));
    clear_bits(va, 1);
    run(va);
    check_eq("a fetch sets A on every level", all_bits(va, 1), PTE_A | ABOVE(3));
    clear_bits(va, 1);
    __asm__ volatile("lock addq $1, (%0)" : : "r"(va + 16) : "memory", "cc");
    check_eq("a read-modify-write sets A and D", bits(va, 1), PTE_A | PTE_D);
    clear_bits(va, 1);
    __asm__ volatile("cmpq $0, (%0)" : : "r"(va + 16) : "memory", "cc");
    check_eq("a compare sets A", bits(va, 1), PTE_A);
    clear_bits(va, 1);
    u64 to = va + 32, from = va + 16, count = 16;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    check_eq("rep movsb sets A and D", bits(va, 1), PTE_A | PTE_D);

    /* D alone: cleared under a page that has been written */
    *table_entry(kernel_root, va, 1) &= ~PTE_D;
    invlpg((void *)va);
    load(va);
    check_eq("D cleared, load: stays clear", bits(va, 1), PTE_A);
    store(va + 16, 3);
    check_eq("D cleared, store: set again", bits(va, 1), PTE_A | PTE_D);
    *table_entry(kernel_root, va, 1) &= ~PTE_A;
    invlpg((void *)va);
    load(va);
    check_eq("A cleared, load: set again", bits(va, 1), PTE_A | PTE_D);

    /* An access over the end of one page is one to both */
    clear_bits(va, 1);
    clear_bits(neighbour, 1);
    store(neighbour - 4, 0x1122334455667788);
    check_eq("a store over two pages: the first", bits(va, 1), PTE_A | PTE_D);
    check_eq("a store over two pages: the second", bits(neighbour, 1), PTE_A | PTE_D);
    check_eq("and both have their half", words(other)[0] & 0xffffffff, 0x11223344);

    /* No success, no D */
    *table_entry(kernel_root, va, 1) = frame | RO;
    clear_bits(va, 1);
    store(va, 1);
    check_eq("a store that faults sets no D", bits(va, 1) & PTE_D, 0);
    *table_entry(kernel_root, va, 1) = 0;
    *table_entry(kernel_root, neighbour, 1) = 0;
    write_cr3(read_cr3());
    frame_free(frame);
    frame_free(other);
}

static void from_ring_3(void) {
    section("A and D from ring 3");
    paddr frame = marked_frame(9);
    map_page(kernel_root, va, frame, USER);
    clear_bits(va, 1);
    user_load(va);
    check_eq("a load sets A", all_bits(va, 1), PTE_A | ABOVE(3));
    user_store(va, 1);
    check_eq("a store sets D", all_bits(va, 1), PTE_A | PTE_D | ABOVE(3));
    *table_entry(kernel_root, va, 1) = frame | RW;
    clear_bits(va, 1);
    user_store(va, 1);
    check_eq("a store without the right sets no D", bits(va, 1) & PTE_D, 0);
    *table_entry(kernel_root, va, 1) = 0;
    invlpg((void *)va);
    frame_free(frame);
}

static void large_pages(void) {
    section("A and D of large pages");
    const u64 big = va + PAGE_1G, bigger = va + 2 * PAGE_1G;
    map_large(kernel_root, big, huge_frame(0), 2, RW);
    clear_bits(big, 2);
    load(big + 0x12340);
    check_eq("2 MiB: a load sets A", all_bits(big, 2), PTE_A | ABOVE(2));
    store(big + 0x54320, 1);
    check_eq("2 MiB: a store sets D in the PDE", all_bits(big, 2), PTE_A | PTE_D | ABOVE(2));
    *table_entry(kernel_root, big, 2) = 0;
    if (cpu.huge_1g) {
        map_large(kernel_root, bigger, 0, 3, RW);
        clear_bits(bigger, 3);
        load(bigger + kernel_root);
        check_eq("1 GiB: a load sets A", all_bits(bigger, 3), PTE_A | ABOVE(1));
        store(bigger + huge_frame(1), 1);
        check_eq("1 GiB: a store sets D in the PDPTE", all_bits(bigger, 3), PTE_A | PTE_D | ABOVE(1));
        *table_entry(kernel_root, bigger, 3) = 0;
    } else {
        skip("1 GiB pages", "CPUID has none");
    }
    write_cr3(read_cr3());
}

void test_accessed_dirty(void) {
    small_pages();
    from_ring_3();
    large_pages();
}
