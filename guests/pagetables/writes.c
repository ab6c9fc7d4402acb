/* Page-table entries written with every width and every kind of instruction. A monitor that watches the table must
 * see each of them. Each check: the mapping was one thing, is written, flushed, and is the other thing. */
#include "pagetables.h"

#include "access.h"
#include "check.h"
#include "features.h"
#include "user.h"

static const u64 va = (u64)SLOT_WRITES << 39;

/* 16 frames in one 64 KiB block: their addresses differ in bits 12 to 15 only. Frame n holds 0x700 + n. */
static paddr block;
static volatile u64 *pte; /* of va; the next ones are those of the pages after it */

static paddr frame(unsigned n) { return block + n * PAGE_SIZE; }

static u64 page(unsigned n) {
    invlpg((void *)(va + n * PAGE_SIZE));
    return load(va + n * PAGE_SIZE);
}

/* Page 0 leads to frame 0 and is in the TLB. */
static void begin(void) {
    *pte = frame(0) | RW;
    page(0);
}

static void narrow_stores(void) {
    section("entries written by plain stores");
    begin();
    *pte = frame(1) | RW;
    check_eq("8 bytes", page(0), 0x701);
    begin();
    *(volatile u32 *)pte = (u32)(frame(2) | RW);
    check_eq("4 bytes, low half", page(0), 0x702);
    begin();
    *((volatile u32 *)pte + 1) = 1; /* frame 0 plus 4 GiB: memory that is not there, so only look that it is not ours */
    *((volatile u32 *)pte + 1) = 0;
    check_eq("4 bytes, high half, and back", page(0), 0x700);
    if (cpu.nx) {
        begin();
        *((volatile u32 *)pte + 1) = 1u << 31;
        invlpg((void *)va);
        check_eq("4 bytes, high half: NX", run(va), FAULTED | PF_P | PF_I);
    }
    begin();
    *(volatile u16 *)pte = (u16)(frame(3) | RW);
    check_eq("2 bytes", page(0), 0x703);
    begin();
    *((volatile u8 *)pte + 1) = (u8)(frame(4) >> 8);
    check_eq("1 byte: bits 12 to 15 of the address", page(0), 0x704);
    begin();
    *(volatile u8 *)pte = RO;
    invlpg((void *)va);
    check_eq("1 byte: rights", store(va + 8, 1), FAULTED | PF_P | PF_W);
    *(volatile u8 *)pte = 0;
    check_eq("1 byte: not present", page(0), FAULTED);
    begin();
    pte[1] = frame(0) | RW;
    page(1);
    u64 straddling = (frame(1) | RW) << 32;
    __asm__ volatile("movq %1, (%0)" : : "r"((u8 *)pte + 4), "r"(straddling) : "memory");
    check_eq("8 bytes across two entries: the second", page(1), 0x701);
    check_eq("8 bytes across two entries: the first", page(0), 0x700);
}

static void atomic_stores(void) {
    section("entries written by read-modify-writes");
    u64 value = frame(5) | RW, old;
    begin();
    __asm__ volatile("xchgq %0, (%1)" : "+r"(value) : "r"(pte) : "memory");
    check_eq("xchg", page(0), 0x705);
    check_eq("  which returned the old entry", value & PTE_ADDRESS, frame(0));
    begin();
    old = *pte;
    value = frame(6) | RW;
    __asm__ volatile("lock cmpxchgq %2, (%1)" : "+a"(old) : "r"(pte), "r"(value) : "memory", "cc");
    check_eq("lock cmpxchg", page(0), 0x706);
    old = 0;
    value = frame(7) | RW;
    __asm__ volatile("lock cmpxchgq %2, (%1)" : "+a"(old) : "r"(pte), "r"(value) : "memory", "cc");
    check_eq("lock cmpxchg that fails", page(0), 0x706);
    check_eq("  returned the entry with A set by the load", old & ~PTE_D, frame(6) | RW | PTE_A);
    begin();
    __asm__ volatile("lock orq %1, (%0)" : : "r"(pte), "r"(0x8000ull) : "memory", "cc");
    check_eq("lock or: bit 15", page(0), 0x708);
    __asm__ volatile("lock andq %1, (%0)" : : "r"(pte), "r"(~0x8000ull) : "memory", "cc");
    check_eq("lock and: bit 15 off", page(0), 0x700);
    __asm__ volatile("lock btsq $13, (%0)" : : "r"(pte) : "memory", "cc");
    check_eq("lock bts", page(0), 0x702);
    __asm__ volatile("lock btrq $13, (%0)" : : "r"(pte) : "memory", "cc");
    check_eq("lock btr", page(0), 0x700);
    __asm__ volatile("btcq %1, (%0)" : : "r"(pte), "r"(64ull + 14) : "memory", "cc"); /* bit 14 of the next entry */
    pte[1] = frame(0) | RW;
    page(1);
    __asm__ volatile("btcq %1, (%0)" : : "r"(pte), "r"(64ull + 14) : "memory", "cc");
    check_eq("btc with a bit number beyond 63", page(1), 0x704);
    __asm__ volatile("lock xorq %1, (%0)" : : "r"(pte), "r"(0x3000ull) : "memory", "cc");
    check_eq("lock xor", page(0), 0x703);
    __asm__ volatile("addq $0x1000, (%0)" : : "r"(pte) : "memory", "cc");
    check_eq("add", page(0), 0x704);
    __asm__ volatile("lock subl $0x2000, (%0)" : : "r"(pte) : "memory", "cc");
    check_eq("lock sub of 4 bytes", page(0), 0x702);
    value = 0x5000;
    __asm__ volatile("lock xaddq %0, (%1)" : "+r"(value) : "r"(pte) : "memory", "cc");
    check_eq("lock xadd", page(0), 0x707);
    __asm__ volatile("lock incb 2(%0); lock decb 2(%0); lock notq 8(%0); lock notq 8(%0)" : : "r"(pte) : "memory", "cc");
    check_eq("inc, dec, not twice", page(0), 0x707);
    __asm__ volatile("lock btrl $0, (%0)" : : "r"(pte) : "memory", "cc");
    check_eq("lock btr of P", page(0), FAULTED);
}

static void wide_stores(void) {
    section("entries written by wide, string and stack stores");
    u64 pair[2] __attribute__((aligned(16))) = {frame(8) | RW, frame(9) | RW};
    begin();
    if (cpu.cmpxchg16b) {
        u64 low = pte[0], high = pte[1];
        __asm__ volatile("lock cmpxchg16b (%2)"
                         : "+a"(low), "+d"(high)
                         : "r"(pte), "b"(pair[0]), "c"(pair[1])
                         : "memory", "cc");
        check_eq("cmpxchg16b: first entry", page(0), 0x708);
        check_eq("cmpxchg16b: second entry", page(1), 0x709);
    } else {
        skip("cmpxchg16b", "CPUID has none");
    }
    pair[0] = frame(10) | RW;
    pair[1] = frame(11) | RW;
    __asm__ volatile("movaps (%1), %%xmm0; movaps %%xmm0, (%0)" : : "r"(pte), "r"(pair) : "memory");
    check_eq("movaps: first entry", page(0), 0x70a);
    check_eq("movaps: second entry", page(1), 0x70b);
    pair[0] = frame(12) | RW;
    __asm__ volatile("movups (%1), %%xmm0; movups %%xmm0, (%0)" : : "r"(pte + 1), "r"(pair) : "memory");
    check_eq("movups that is not aligned", page(1), 0x70c);
    __asm__ volatile("movnti %1, (%0)" : : "r"(pte), "r"(frame(13) | RW) : "memory");
    check_eq("movnti", page(0), 0x70d);
    __asm__ volatile("mov %%rsp, %%rax; lea 8(%0), %%rsp; push %1; mov %%rax, %%rsp"
                     :
                     : "r"(pte), "r"(frame(14) | RW)
                     : "rax", "memory");
    check_eq("push, with the stack in the table", page(0), 0x70e);
    u64 from = (u64)pair, to = (u64)pte;
    pair[0] = frame(15) | RW;
    __asm__ volatile("movsq" : "+S"(from), "+D"(to) : : "memory");
    check_eq("movsq", page(0), 0x70f);
    to = (u64)pte;
    __asm__ volatile("stosq" : "+D"(to) : "a"(frame(1) | RW) : "memory");
    check_eq("stosq", page(0), 0x701);
    from = (u64)pair;
    to = (u64)pte;
    u64 count = 16;
    pair[0] = frame(2) | RW;
    pair[1] = frame(3) | RW;
    __asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    check_eq("rep movsb: first entry", page(0), 0x702);
    check_eq("rep movsb: second entry", page(1), 0x703);
}

static unsigned right_pages(unsigned add) {
    unsigned right = 0;
    write_cr3(read_cr3());
    for (unsigned n = 0; n < 512; n += 7) /* 74 pages of the 512 */
        right += load(va + n * PAGE_SIZE) == 0x700 + (n + add) % 16;
    return right;
}

static void whole_tables(void) {
    section("whole tables");
    paddr prepared = frame_alloc();
    u64 from = (u64)words(prepared), to = (u64)pte, count = 512;
    for (unsigned n = 0; n < 512; n++)
        words(prepared)[n] = frame(n % 16) | RW;
    __asm__ volatile("rep movsq" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    check_eq("rep movsq of a table", right_pages(0), 74);
    to = (u64)pte;
    count = 512;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(0) : "memory");
    write_cr3(read_cr3());
    check_eq("rep stosq of zeroes: first page", load(va), FAULTED);
    check_eq("rep stosq of zeroes: last page", load(va + 511 * PAGE_SIZE), FAULTED);
    for (unsigned n = 0; n < 512; n++)
        pte[n] = frame((n + 1) % 16) | RW;
    check_eq("a loop of stores", right_pages(1), 74);
    /* Downwards, from within the table itself: entry n becomes what entry n - 1 was */
    from = (u64)&pte[510];
    to = (u64)&pte[511];
    count = 511;
    __asm__ volatile("std; rep movsq; cld" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    pte[0] = frame(0) | RW;
    check_eq("rep movsq downwards within the table", right_pages(0), 74);
    to = (u64)pte;
    count = 4096;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0) : "memory");
    check_eq("rep stosb of zeroes", page(16), FAULTED);
    frame_free(prepared);
}

static void from_ring_3(void) {
    section("ring 3 writes page tables");
    u64 window = va + PAGE_2M; /* the table itself, as a user page */
    map_page(kernel_root, window, virt_to_phys((void *)pte), USER);
    pte[0] = frame(1) | USER;
    check_eq("its page", user_load(va), 0x701);
    check_eq("it writes the entry", user_store(window, frame(2) | USER), 0);
    invlpg((void *)va);
    check_eq("which counts", user_load(va), 0x702);
    check_eq("it makes itself another page", user_store(window + 5 * 8, frame(3) | USER), 0);
    check_eq("and has it", user_load(va + 5 * PAGE_SIZE), 0x703);
    *table_entry(kernel_root, window, 1) = 0;
    pte[0] = pte[5] = 0;
    write_cr3(read_cr3());
}

void test_entry_writes(void) {
    block = frame_run(16);
    for (unsigned n = 0; n < 16; n++)
        words(frame(n))[0] = 0x700 + n;
    pte = make_entry(kernel_root, va, 1);
    narrow_stores();
    atomic_stores();
    wide_stores();
    whole_tables();
    from_ring_3();
}
