/* 2 MiB and 1 GiB pages: split, merge, move. */
#include "pagetables.h"

#include "access.h"
#include "check.h"
#include "features.h"

static const u64 va = (u64)SLOT_LARGE << 39;

static u64 *huge_words(unsigned n, u64 offset) { return phys_to_virt(huge_frame(n) + offset); }

static void two_megabytes(void) {
    section("2 MiB pages");
    *huge_words(0, 0) = 0x20;
    *huge_words(0, 0x1ff000) = 0x21;
    *huge_words(1, 0x1ff000) = 0x31;
    map_large(kernel_root, va, huge_frame(0), 2, RW);
    u64 *pde = table_entry(kernel_root, va, 2);
    check_eq("its first word", load(va), 0x20);
    check_eq("a word in its last 4 KiB", load(va + 0x1ff000), 0x21);
    check_eq("a store in the middle", store(va + 0x100008, 0x22), 0);
    check_eq("reaches memory", *huge_words(0, 0x100008), 0x22);
    check_eq("nothing behind it", load(va + PAGE_2M), FAULTED);
    *pde = huge_frame(1) | RW | PTE_PS;
    invlpg((void *)(va + 0x3000));
    check_eq("moved: invlpg anywhere in it flushes all of it", load(va + 0x1ff000), 0x31);
    *pde = huge_frame(0) | RO | PTE_PS;
    invlpg((void *)va);
    check_eq("read-only: store faults", store(va + 0x150000, 1), FAULTED | PF_P | PF_W);
    check_eq("load does not", load(va + 0x1ff000), 0x21);
    check_eq("ring 3 has no right", user_load(va), FAULTED | PF_P | PF_U);
    *pde = huge_frame(0) | USER | PTE_PS;
    invlpg((void *)va);
    check_eq("ring 3 has it", user_load(va + 0x1ff000), 0x21);
}

static void split_and_merge(void) {
    section("split and merge");
    u64 *pde = table_entry(kernel_root, va, 2);
    paddr table = frame_alloc(), other = marked_frame(0x4444);
    for (u64 i = 0; i < 512; i++)
        words(table)[i] = (huge_frame(0) + i * PAGE_SIZE) | RW;
    *pde = table | USER;
    write_cr3(read_cr3());
    check_eq("split: the first 4 KiB", load(va), 0x20);
    check_eq("split: the last 4 KiB", load(va + 0x1ff000), 0x21);
    words(table)[511] = other | RW;
    words(table)[256] &= ~PTE_W;
    write_cr3(read_cr3());
    check_eq("one 4 KiB page leads elsewhere", load(va + 0x1ff000), 0x4444);
    check_eq("one is read-only", store(va + 0x100000, 1), FAULTED | PF_P | PF_W);
    check_eq("its neighbour is not", store(va + 0x101000, 0x55), 0);
    *pde = huge_frame(0) | RW | PTE_PS;
    write_cr3(read_cr3());
    check_eq("merged: the last 4 KiB", load(va + 0x1ff000), 0x21);
    check_eq("merged: writable everywhere", store(va + 0x100000, 0x66), 0);
    check_eq("merged: what was stored while split", load(va + 0x101000), 0x55);
    words(table)[0] = other | RW; /* no table any more: this is data */
    check_eq("a store to the former table changes nothing", load(va), 0x20);
    *pde = 0;
    write_cr3(read_cr3());
    check_eq("unmapped", load(va + 0x1ff000), FAULTED);
    frame_free(table);
    frame_free(other);
}

static void one_gigabyte(void) {
    section("1 GiB pages");
    if (!cpu.huge_1g) {
        skip("1 GiB pages", "CPUID has none");
        return;
    }
    u64 base = va + 4 * PAGE_1G;
    paddr frame = marked_frame(0x9999);
    map_large(kernel_root, base, 0, 3, RW);
    u64 *pdpte = table_entry(kernel_root, base, 3);
    check_eq("a frame seen through it", load(base + frame), 0x9999);
    check_eq("a store through it", store(base + huge_frame(1) + 0x1ff000, 0x32), 0);
    check_eq("reaches memory", *huge_words(1, 0x1ff000), 0x32);
    *pdpte &= ~PTE_W;
    invlpg((void *)base);
    check_eq("read-only", store(base + frame, 1), FAULTED | PF_P | PF_W);

    paddr directory = frame_alloc();
    for (u64 i = 0; i < 512; i++)
        words(directory)[i] = i * PAGE_2M | RW | PTE_PS;
    *pdpte = directory | RW;
    write_cr3(read_cr3());
    check_eq("split into 2 MiB pages", load(base + frame), 0x9999);
    words(directory)[7] = huge_frame(1) | RW | PTE_PS;
    write_cr3(read_cr3());
    check_eq("one of them leads elsewhere", load(base + 7 * PAGE_2M + 0x1ff000), 0x32);
    *pdpte = 0 | RW | PTE_PS;
    write_cr3(read_cr3());
    check_eq("merged", store(base + frame, 0x8888), 0);
    check_eq("reaches the frame", words(frame)[0], 0x8888);
    *pdpte = 0;
    write_cr3(read_cr3());
    check_eq("unmapped", load(base + frame), FAULTED);
    frame_free(directory);
    frame_free(frame);
}

void test_large_pages(void) {
    two_megabytes();
    split_and_merge();
    one_gigabyte();
}
