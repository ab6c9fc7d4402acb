/* Process-context identifiers and INVPCID. A PCID's old translations may live on until they are flushed, and need not:
 * what is checked is that each kind of flush flushes. */
#include "pagetables.h"

#include "access.h"
#include "check.h"
#include "features.h"
#include "traps.h"

enum invpcid_type { ADDRESS = 0, SINGLE = 1, ALL_AND_GLOBAL = 2, ALL_BUT_GLOBAL = 3 };
enum { PCID_1 = 1, PCID_2 = 0xabc };

static const u64 va = (u64)SLOT_SPACES << 39;

struct invpcid_descriptor {
    u64 pcid, address;
};

static void invpcid(u64 type, u64 pcid, u64 address) {
    struct invpcid_descriptor descriptor = {pcid, address};
    __asm__ volatile("invpcid %0, %1" : : "m"(descriptor), "r"(type) : "memory");
}

static void load_cr4(u64 value) { write_cr4(value); }
static void invpcid_of_type(u64 type) { invpcid(type, 0, 0); }
static void invpcid_of_pcid(u64 pcid) { invpcid(SINGLE, pcid, 0); }
static void invpcid_of_address(u64 address) { invpcid(ADDRESS, 0, address); }

static paddr roots[2], frames[2];

/* Lets the CPU see frames[n] under both PCIDs, then changes both mappings to the other frame. */
static void see_and_swap(u64 flags) {
    for (int n = 0; n < 2; n++) {
        *table_entry(roots[n], va, 1) = frames[n] | flags;
        write_cr3(roots[n] | (n ? PCID_2 : PCID_1));
        load(va);
    }
    for (int n = 0; n < 2; n++)
        *table_entry(roots[n], va, 1) = frames[!n] | flags;
}

static void switch_to(int n) { write_cr3(roots[n] | (n ? PCID_2 : PCID_1) | CR3_NO_FLUSH); }

static void pcids(void) {
    see_and_swap(RW);
    check_eq("CR3 shows the PCID", read_cr3(), roots[1] | PCID_2);
    switch_to(0);
    check_eq("CR3 does not show the no-flush bit", read_cr3(), roots[0] | PCID_1);
    u64 seen = load(va);
    check("switch without flush: old or new", seen == 0x100 || seen == 0x101);
    write_cr3(roots[0] | PCID_1);
    check_eq("switch with flush: new", load(va), 0x101);
    invlpg((void *)va);
    switch_to(1);
    seen = load(va);
    check("which was for that PCID only", seen == 0x100 || seen == 0x101);
    invlpg((void *)va);
    check_eq("invlpg is for the current PCID", load(va), 0x100);

    /* Not changed: what was seen without a flush must be right */
    unsigned right = 0;
    for (int i = 0; i < 8; i++) {
        switch_to(i & 1);
        write_cr3(read_cr3());
        right += load(va) == (i & 1 ? 0x100u : 0x101u);
    }
    for (int i = 0; i < 8; i++) {
        switch_to(i & 1);
        right += load(va) == (i & 1 ? 0x100u : 0x101u);
    }
    check_eq("to and fro without flushes", right, 16);
}

static void check_both(const char *first, const char *second) {
    switch_to(0);
    check_eq(first, load(va), 0x101);
    switch_to(1);
    check_eq(second, load(va), 0x100);
}

static void invpcids(void) {
    if (!cpu.invpcid) {
        skip("invpcid", "CPUID has none");
        return;
    }
    see_and_swap(RW);
    invpcid(ADDRESS, PCID_1, va);
    invpcid(ADDRESS, PCID_2, va);
    check_both("invpcid by address: first PCID", "invpcid by address: second PCID");
    see_and_swap(RW);
    invpcid(SINGLE, PCID_1, 0);
    invpcid(SINGLE, PCID_2, 0);
    check_both("invpcid by PCID: first", "invpcid by PCID: second");
    see_and_swap(RW);
    invpcid(ALL_BUT_GLOBAL, 0, 0);
    check_both("invpcid of all but global: first PCID", "invpcid of all but global: second PCID");
    if (cpu.global_pages) {
        see_and_swap(RW | PTE_G); /* the global translation of one root counts under the other: flush between */
        switch_to(0);
        invpcid(ALL_AND_GLOBAL, 0, 0);
        check_eq("invpcid of all and global: first PCID", load(va), 0x101);
        switch_to(1);
        invpcid(ALL_AND_GLOBAL, 0, 0);
        check_eq("invpcid of all and global: second PCID", load(va), 0x100);
    }
    expect_trap("invpcid of type 4: #GP(0)", invpcid_of_type, 4, VEC_GP, 0, NULL);
    expect_trap("invpcid of PCID 4096: #GP(0)", invpcid_of_pcid, 4096, VEC_GP, 0, NULL);
    expect_trap("invpcid of an address that is not canonical: #GP(0)", invpcid_of_address, 1ull << 63, VEC_GP, 0, NULL);
}

void test_pcid(void) {
    section("PCID");
    if (!cpu.pcid) {
        skip("PCID and INVPCID", "CPUID has no PCID");
        return;
    }
    for (int n = 0; n < 2; n++) {
        roots[n] = new_root();
        frames[n] = marked_frame(0x100u + (unsigned)n);
        map_page(roots[n], va, frames[n], RW);
    }
    write_cr3(kernel_root | 0x18);
    expect_trap("CR4.PCIDE with CR3[11:0] not 0: #GP(0)", load_cr4, read_cr4() | CR4_PCIDE, VEC_GP, 0, NULL);
    write_cr3(kernel_root);
    write_cr4(read_cr4() | CR4_PCIDE);
    pcids();
    invpcids();
    write_cr3(kernel_root);
    write_cr4(read_cr4() & ~(u64)CR4_PCIDE);
    write_cr3(roots[0]);
    *table_entry(roots[0], va, 1) = frames[0] | RW;
    flush_all();
    check_eq("and without PCIDs again", load(va), 0x100);
    write_cr3(kernel_root);
    for (int n = 0; n < 2; n++) {
        frame_free(roots[n]);
        frame_free(frames[n]);
    }
}
