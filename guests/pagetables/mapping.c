/* Map, unmap, remap, downgrade, upgrade: at the last level and above. */
#include "pagetables.h"

#include "access.h"
#include "check.h"
#include "features.h"
#include "traps.h"

static const u64 va = (u64)SLOT_MAPPING << 39;

static void map_and_unmap(void) {
    section("map, unmap, remap");
    paddr a = marked_frame(0xaaaa), b = marked_frame(0xbbbb);
    check_eq("nothing there", load(va), FAULTED);
    map_page(kernel_root, va, a, RW);
    u64 *pte = table_entry(kernel_root, va, 1);
    check_eq("mapped: seen without a flush", load(va), 0xaaaa);
    check_eq("store", store(va + 8, 0x1234), 0);
    check_eq("reaches the frame", words(a)[1], 0x1234);
    *pte = 0;
    invlpg((void *)va);
    check_eq("unmapped, invlpg: gone", load(va), FAULTED);
    check_eq("for stores, too", store(va, 1), FAULTED | PF_W);
    *pte = b | RW;
    check_eq("mapped again, other frame", load(va), 0xbbbb);
    *pte = a | RW;
    invlpg((void *)va);
    check_eq("remapped while mapped, invlpg", load(va), 0xaaaa);
    *pte = b | RW;
    u64 before_flush = load(va);
    check("remapped without invlpg: old or new", before_flush == 0xaaaa || before_flush == 0xbbbb);
    invlpg((void *)(va + 0xabc));
    check_eq("invlpg of any byte of the page makes it new", load(va), 0xbbbb);
    *pte = 0;
    before_flush = load(va);
    check("unmapped without invlpg: old or gone", before_flush == 0xbbbb || before_flush == FAULTED);
    write_cr3(read_cr3());
    check_eq("a load of CR3 makes it gone", load(va), FAULTED);
    *pte = ~PTE_P;
    check_eq("not present with every other bit set: no reserved-bit fault", load(va), FAULTED);
    *pte = a | RW | 0x07f0000000000e00 | 0x18; /* the ignored bits, PCD and PWT */
    check_eq("the bits for software are ignored", load(va), 0xaaaa);
    *pte = 0;
    invlpg((void *)va);
    frame_free(a);
    frame_free(b);
}

static unsigned spurious;

static bool retry(struct frame *frame) {
    (void)frame;
    return ++spurious <= 1; /* a second one is taken for a true fault */
}

/* More rights than before need no invlpg: the CPU may fault once on what it remembers, and then looks again. */
static void check_upgrade(const char *name, u64 outcome, u64 want) {
    set_trap_handler(VEC_PF, NULL);
    check_eq(name, outcome, want);
}

static void begin_upgrade(void) {
    spurious = 0;
    set_trap_handler(VEC_PF, retry);
}

static void change_rights(void) {
    section("downgrade and upgrade");
    paddr frame = code_frame(0x77);
    map_page(kernel_root, va, frame, RW);
    u64 *pte = table_entry(kernel_root, va, 1), first_word = words(frame)[0];
    check_eq("writable", store(va + 64, 1), 0);
    *pte &= ~PTE_W;
    store(va + 64, 2); /* without invlpg either may happen */
    invlpg((void *)va);
    check_eq("read-only, invlpg: store faults", store(va + 64, 3), FAULTED | PF_P | PF_W);
    check_eq("load does not", load(va), first_word);
    check("the last store is not in memory", words(frame)[8] != 3);
    *pte |= PTE_W;
    begin_upgrade();
    check_upgrade("writable without invlpg: store after at most one retry", store(va + 64, 4), 0);
    check_eq("and it is in memory", words(frame)[8], 4);

    check_eq("ring 3 has no right", user_load(va), FAULTED | PF_P | PF_U);
    *pte |= PTE_U;
    begin_upgrade();
    check_upgrade("user without invlpg: ring 3 loads after at most one retry", user_load(va), first_word);
    *pte &= ~PTE_U;
    invlpg((void *)va);
    check_eq("supervisor again, invlpg: ring 3 faults", user_load(va), FAULTED | PF_P | PF_U);
    if (cpu.nx) {
        check_eq("executable", run(va), 0x77);
        *pte |= PTE_NX;
        invlpg((void *)va);
        check_eq("no-execute, invlpg: fetch faults", run(va), FAULTED | PF_P | PF_I);
        *pte &= ~PTE_NX;
        begin_upgrade();
        check_upgrade("executable without invlpg: runs after at most one retry", run(va), 0x77);
    }
    *pte = 0;
    invlpg((void *)va);
    frame_free(frame);
}

static void upper_levels(void) {
    section("upper levels");
    static const char *const gone[] = {"", "", "PDE cleared: gone", "PDPTE cleared: gone", "PML4E cleared: gone"};
    static const char *const back[] = {"", "", "PDE back: there", "PDPTE back: there", "PML4E back: there"};
    static const char *const read_only[] = {"", "", "PDE read-only", "PDPTE read-only", "PML4E read-only"};
    paddr frame = marked_frame(0x5555), other = marked_frame(0x6666);
    map_page(kernel_root, va, frame, RW);
    for (int level = 2; level <= 4; level++) {
        u64 *entry = table_entry(kernel_root, va, level), saved = *entry;
        check_eq("there", load(va), 0x5555);
        *entry = 0;
        invlpg((void *)va);
        check_eq(gone[level], load(va), FAULTED);
        *entry = saved;
        check_eq(back[level], load(va), 0x5555);
        *entry = saved & ~PTE_W;
        invlpg((void *)va);
        check_eq(read_only[level], store(va, 1), FAULTED | PF_P | PF_W);
        *entry = saved;
        invlpg((void *)va);
    }
    /* A second page table, filled while nothing points at it, then put in the place of the first. */
    paddr second = frame_alloc();
    for (unsigned i = 0; i < 512; i++)
        words(second)[i] = other | RW;
    u64 *pde = table_entry(kernel_root, va, 2), saved = *pde;
    *pde = second | USER;
    write_cr3(read_cr3());
    check_eq("another page table: its first page", load(va), 0x6666);
    check_eq("and its last", load(va + 511 * PAGE_SIZE), 0x6666);
    *pde = saved;
    write_cr3(read_cr3());
    check_eq("the first table again", load(va), 0x5555);
    check_eq("where nothing else is mapped", load(va + 511 * PAGE_SIZE), FAULTED);
    *table_entry(kernel_root, va, 1) = 0;
    invlpg((void *)va);
    frame_free(second);
    frame_free(frame);
    frame_free(other);
}

static void many_pages(void) {
    section("many pages at once");
    enum { MANY = 32 };
    paddr frames[MANY];
    for (u64 i = 0; i < MANY; i++) {
        frames[i] = marked_frame(i);
        map_page(kernel_root, va + i * PAGE_SIZE, frames[i], RW);
    }
    unsigned right = 0;
    for (u64 i = 0; i < MANY; i++)
        right += load(va + i * PAGE_SIZE) == i;
    check_eq("each page leads to its frame", right, MANY);
    for (u64 i = 0; i < MANY; i++) /* turned round: one flush for all */
        *table_entry(kernel_root, va + i * PAGE_SIZE, 1) = frames[MANY - 1 - i] | RW;
    write_cr3(read_cr3());
    right = 0;
    for (u64 i = 0; i < MANY; i++)
        right += load(va + i * PAGE_SIZE) == MANY - 1 - i;
    check_eq("each leads to its new frame after one load of CR3", right, MANY);
    for (u64 i = 0; i < MANY; i++) {
        *table_entry(kernel_root, va + i * PAGE_SIZE, 1) = 0;
        invlpg((void *)(va + i * PAGE_SIZE));
        frame_free(frames[i]);
    }
    right = 0;
    for (u64 i = 0; i < MANY; i++)
        right += load(va + i * PAGE_SIZE) == FAULTED;
    check_eq("unmapped one by one", right, MANY);
}

void test_mapping(void) {
    map_and_unmap();
    change_rights();
    upper_levels();
    many_pages();
}
