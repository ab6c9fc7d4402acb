#include "paging.h"

#include "check.h"
#include "features.h"

#define KERNEL_VMA ((u64)kernel_vma)
enum { POOL_FRAMES = 192 };

/* From linker.ld */
extern u8 kernel_vma[], text_start[], rodata_start[], user_image[], user_start[], user_end[], data_start[], data_end[];
extern u8 huge_start[], huge_end[], kernel_end[];

paddr kernel_root;

__attribute__((aligned(4096))) static u8 pool[POOL_FRAMES][PAGE_SIZE];
static unsigned pool_used;
static paddr free_list; /* a free frame's first word is the next one's address */

paddr virt_to_phys(const void *va) {
    u64 address = (u64)va;
    return address - (address >= DIRECT_MAP && address < DIRECT_MAP + (1ull << 46) ? DIRECT_MAP : KERNEL_VMA);
}

paddr frame_alloc(void) {
    paddr frame = free_list;
    if (frame)
        free_list = *(u64 *)phys_to_virt(frame);
    else if (pool_used < POOL_FRAMES)
        frame = virt_to_phys(pool[pool_used++]);
    else
        give_up("out of page frames: raise POOL_FRAMES in lib/paging.c");
    u64 *words = phys_to_virt(frame);
    for (unsigned i = 0; i < PAGE_SIZE / sizeof *words; i++)
        words[i] = 0;
    return frame;
}

void frame_free(paddr frame) {
    *(u64 *)phys_to_virt(frame) = free_list;
    free_list = frame;
}

paddr huge_frame(unsigned n) {
    if (huge_start + (n + 1) * PAGE_2M > huge_end)
        give_up("out of 2 MiB frames: raise HUGE_FRAMES in the Makefile");
    return virt_to_phys(huge_start) + n * PAGE_2M;
}

static unsigned table_index(u64 va, int level) { return va >> (12 + 9 * (level - 1)) & 511; }

u64 *table_entry(paddr root, u64 va, int level) {
    u64 *table = phys_to_virt(root & PTE_ADDRESS);
    for (int at = 4; at > level; at--) {
        u64 entry = table[table_index(va, at)];
        if (!(entry & PTE_P) || entry & PTE_PS)
            return NULL;
        table = phys_to_virt(entry & PTE_ADDRESS);
    }
    return &table[table_index(va, level)];
}

u64 *make_entry(paddr root, u64 va, int level) {
    u64 *table = phys_to_virt(root & PTE_ADDRESS);
    for (int at = 4; at > level; at--) {
        u64 *entry = &table[table_index(va, at)];
        if (!(*entry & PTE_P))
            *entry = frame_alloc() | PTE_P | PTE_W | PTE_U;
        table = phys_to_virt(*entry & PTE_ADDRESS);
    }
    return &table[table_index(va, level)];
}

void map_page(paddr root, u64 va, paddr pa, u64 flags) { *make_entry(root, va, 1) = pa | flags; }

void map_large(paddr root, u64 va, paddr pa, int level, u64 flags) {
    *make_entry(root, va, level) = pa | flags | PTE_PS;
}

static void map_range(u64 va, paddr pa, paddr end, u64 flags) {
    for (; pa < end; pa += PAGE_SIZE, va += PAGE_SIZE)
        map_page(kernel_root, va, pa, flags);
}

static void map_section(const u8 *start, const u8 *end, u64 flags) {
    map_range((u64)start, virt_to_phys(start), virt_to_phys(end), flags);
}

void paging_init(void) {
    u64 nx = 0;
    if (cpu.nx) {
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
        nx = PTE_NX;
    }
    kernel_root = frame_alloc();
    map_section(text_start, rodata_start, PTE_P);
    map_section(rodata_start, user_image, PTE_P | nx);
    map_section(data_start, data_end, PTE_P | PTE_W | nx);
    for (paddr pa = 0; pa < virt_to_phys(kernel_end); pa += PAGE_2M)
        map_large(kernel_root, DIRECT_MAP + pa, pa, 2, PTE_P | PTE_W | nx);

    u64 user_size = (u64)(user_end - user_start);
    map_range((u64)user_start, virt_to_phys(user_image), virt_to_phys(user_image) + user_size, PTE_P | PTE_W | PTE_U);
    map_page(kernel_root, USER_STACK_TOP - PAGE_SIZE, frame_alloc(), PTE_P | PTE_W | PTE_U | nx);

    write_cr0(read_cr0() | CR0_WP);
    write_cr3(kernel_root);
    if (cpu.global_pages)
        write_cr4(read_cr4() | CR4_PGE);
}

paddr new_root(void) {
    paddr root = frame_alloc();
    u64 *to = phys_to_virt(root), *from = phys_to_virt(kernel_root);
    to[0] = from[0];
    for (int i = 256; i < 512; i++)
        to[i] = from[i];
    return root;
}
