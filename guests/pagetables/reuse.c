/* Frames that change their trade: page table, data, code, root. */
#include "pagetables.h"

#include "access.h"
#include "check.h"
#include "features.h"

static const u64 va = (u64)SLOT_REUSE << 39;
static const u64 window = ((u64)SLOT_REUSE << 39) + PAGE_1G; /* where the frame under test is seen as a page */

static void table_to_data(paddr table, paddr target) {
    section("a page table becomes data");
    u64 *pde = table_entry(kernel_root, va, 2);
    words(table)[3] = target | RW;
    *pde = table | RW;
    check_eq("as a table", load(va + 3 * PAGE_SIZE), 0x3333);
    *pde = 0;
    write_cr3(read_cr3());
    check_eq("cut off", load(va + 3 * PAGE_SIZE), FAULTED);
    map_page(kernel_root, window, table, RW);
    check_eq("as data: what the table had", load(window + 24) & PTE_ADDRESS, target);
    unsigned right = 0;
    for (u64 i = 0; i < 512; i++) {
        store(window + i * 8, i * 0x0101010101010101);
        right += words(table)[i] == i * 0x0101010101010101;
    }
    check_eq("as data: 512 stores of anything", right, 512);
    check_eq("nothing is mapped by that", load(va + 3 * PAGE_SIZE), FAULTED);
}

static void data_to_table(paddr table, paddr target) {
    section("data becomes a page table");
    u64 *pde = table_entry(kernel_root, va, 2);
    for (u64 i = 0; i < 512; i++)
        store(window + i * 8, i & 1 ? target | RW : 0);
    *pde = table | RW;
    check_eq("filled before, counts at once: odd pages", load(va + 77 * PAGE_SIZE), 0x3333);
    check_eq("filled before: even pages", load(va + 76 * PAGE_SIZE), FAULTED);
    check_eq("edited through its data mapping", store(window + 76 * 8, target | RW), 0);
    check_eq("counts", load(va + 76 * PAGE_SIZE), 0x3333);
    *pde = 0;
    write_cr3(read_cr3());
}

static void table_to_code(paddr table, paddr target) {
    section("a page table becomes code");
    static const u8 code[] = {0xb8, 0x21, 0x43, 0x00, 0x00, 0xc3}; /* mov $0x4321, %eax; ret */
    u64 *pde = table_entry(kernel_root, va, 2);
    words(table)[0] = target | RW;
    *pde = table | RW;
    check_eq("as a table", load(va), 0x3333);
    *pde = 0;
    write_cr3(read_cr3());
    for (unsigned i = 0; i < sizeof code; i++)
        ((volatile u8 *)words(table))[i] = code[i];
    check_eq("as code", run(window), 0x4321);
    ((volatile u8 *)words(table))[1] = 0x22;
    check_eq("as code that was changed", run(window), 0x4322);
    words(table)[0] = target | RW;
    *pde = table | RW;
    check_eq("as a table again", load(va), 0x3333);
    *pde = 0;
    write_cr3(read_cr3());
}

/* Both at once: the first half of the frame is code, one entry in its second half maps a page. */
static void table_and_code(paddr table, paddr target) {
    section("a page table that is run");
    u64 *pde = table_entry(kernel_root, va, 2);
    for (unsigned i = 0; i < 512; i++)
        words(table)[i] = 0;
    *pde = table | RW;
    words(table)[0] = 0xc300001234b8 & ~PTE_P; /* even: not present as an entry; mov $0x1234, %eax; ret as code */
    words(table)[300] = target | RW;
    check_eq("its code runs", run(window), 0x1234);
    check_eq("its entry maps", load(va + 300 * PAGE_SIZE), 0x3333);
    words(table)[301] = target | RW;
    check_eq("another entry maps", load(va + 301 * PAGE_SIZE), 0x3333);
    check_eq("and the code still runs", run(window), 0x1234);
    *pde = 0;
    write_cr3(read_cr3());
}

static void table_to_upper_table(paddr table, paddr target) {
    section("a page table becomes a directory, a PDPT and a root");
    paddr leaf_table = frame_alloc(), directory = frame_alloc();
    words(leaf_table)[2] = target | RW;
    for (unsigned i = 0; i < 512; i++)
        words(table)[i] = 0;
    words(table)[4] = leaf_table | RW;
    u64 *pdpte = make_entry(kernel_root, va + 9 * PAGE_1G, 3);
    *pdpte = table | RW;
    check_eq("a directory", load(va + 9 * PAGE_1G + 4 * PAGE_2M + 2 * PAGE_SIZE), 0x3333);
    *pdpte = 0;
    words(directory)[4] = leaf_table | RW;
    words(table)[4] = 0;
    words(table)[6] = directory | RW;
    u64 *pml4e = make_entry(kernel_root, slot_va(SLOT_REUSE + 1), 4);
    *pml4e = table | RW;
    check_eq("a PDPT", load(slot_va(SLOT_REUSE + 1) + 6 * PAGE_1G + 4 * PAGE_2M + 2 * PAGE_SIZE), 0x3333);
    paddr pdpt = frame_alloc();
    words(pdpt)[6] = directory | RW;
    *pml4e = 0;
    write_cr3(read_cr3());
    for (unsigned i = 0; i < 512; i++)
        words(table)[i] = words(kernel_root)[i];
    words(table)[SLOT_REUSE + 1] = pdpt | RW;
    write_cr3(table);
    check_eq("a root", load(slot_va(SLOT_REUSE + 1) + 6 * PAGE_1G + 4 * PAGE_2M + 2 * PAGE_SIZE), 0x3333);
    write_cr3(kernel_root);
    check_eq("and back under the old root", load(slot_va(SLOT_REUSE + 1) + 6 * PAGE_1G), FAULTED);
    frame_free(leaf_table);
    frame_free(directory);
    frame_free(pdpt);
}

void test_reuse(void) {
    paddr table = frame_alloc(), target = marked_frame(0x3333);
    make_entry(kernel_root, va, 2);
    table_to_data(table, target);
    data_to_table(table, target);
    table_to_code(table, target);
    table_and_code(table, target);
    table_to_upper_table(table, target);
    *table_entry(kernel_root, window, 1) = 0;
    invlpg((void *)window);
    frame_free(table);
    frame_free(target);
}
