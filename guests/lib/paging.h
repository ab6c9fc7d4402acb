/* 4-level page tables. Tables are read and written through the direct map. */
#pragma once
#include "x86.h"

#define PTE_P (1ull << 0)
#define PTE_W (1ull << 1)
#define PTE_U (1ull << 2)
#define PTE_A (1ull << 5)
#define PTE_D (1ull << 6)
#define PTE_PS (1ull << 7)
#define PTE_G (1ull << 8)
#define PTE_NX (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull

#define PAGE_SIZE 0x1000ull
#define PAGE_2M 0x200000ull
#define PAGE_1G 0x40000000ull

#define DIRECT_MAP 0xffff800000000000ull
#define USER_STACK_TOP 0x7ffffff000ull
/* PML4 slots that nothing of the library uses: tests map what they like there. */
#define TEST_VA 0x0000100000000000ull      /* slot 32, and those after it */

typedef u64 paddr;

/* The CR3 value of the tables that paging_init() built. */
extern paddr kernel_root;

/* Replaces the boot tables: kernel text read-only and executable, the rest not executable (where the CPU has NX),
 * user section and stack, direct map of the kernel's own frames, nothing else. Sets CR0.WP, and CR4.PGE if there. */
void paging_init(void);

static inline void *phys_to_virt(paddr pa) { return (void *)(DIRECT_MAP + pa); }
/* Of the kernel's own code and data (linked addresses), or of a direct-map address */
paddr virt_to_phys(const void *va);

paddr frame_alloc(void);             /* one zeroed 4 KiB frame */
void frame_free(paddr frame);
paddr huge_frame(unsigned n);        /* one of HUGE_FRAMES 2 MiB frames, set aside at link time; not zeroed here */

/* Level 4 is the PML4, 1 the page table. Each returns a pointer to the entry that maps `va` at that level. */
u64 *table_entry(paddr root, u64 va, int level);          /* NULL if a table above is missing or a large page */
u64 *make_entry(paddr root, u64 va, int level);           /* makes the tables above; they are P, W and U */

/* Neither flushes anything: what a change needs is what the tests are about. */
void map_page(paddr root, u64 va, paddr pa, u64 flags);
void map_large(paddr root, u64 va, paddr pa, int level, u64 flags);

/* A new root that shares the kernel half and the user slot of kernel_root. */
paddr new_root(void);

static inline void flush_all(void) {
    /* Toggling PGE also drops global pages */
    u64 cr4 = read_cr4();
    if (cr4 & CR4_PGE) {
        write_cr4(cr4 & ~(u64)CR4_PGE);
        write_cr4(cr4);
    } else {
        write_cr3(read_cr3());
    }
}
