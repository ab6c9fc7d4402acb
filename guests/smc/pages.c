/* Code on pages made for it: copied, run, overwritten, run again; beside data; over the end of a page. */
#include "smc.h"

#include "check.h"

static void fresh_page(void) {
    section("a fresh page");
    paddr frame = frame_alloc();
    map_page(kernel_root, code_va, frame, PTE_P | PTE_W);
    function code = (function)code_va;
    write_return_value((void *)code_va, 1);
    check_eq("written, run", code(), 1);
    write_return_value((void *)code_va, 2);
    check_eq("overwritten, run", code(), 2);
    poke32((void *)(code_va + RETURN_VALUE_AT), 3);
    check_eq("patched by 4 bytes, run", code(), 3);
    poke8((void *)(code_va + RETURN_VALUE_AT + 1), 1);
    check_eq("patched by 1 byte, run", code(), 0x103);
    /* A longer routine in its place: mov $5, %eax; inc %eax; inc %eax; ret */
    poke64((void *)code_va, 0xc0ff00000005b8 | 0xffull << 56);
    poke32((void *)(code_va + 8), 0xc3c0);
    check_eq("other instructions in its place", code(), 7);
    poke8((void *)(code_va + 5), 0xc3);
    check_eq("cut short by a ret in its middle", code(), 5);

    u64 from = code_va, to = code_va + 0x800, count = 16;
    __asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    check_eq("copied within the page", ((function)(code_va + 0x800))(), 5);
    poke8((void *)(code_va + 0x801), 9);
    check_eq("the copy changed", ((function)(code_va + 0x800))(), 9);
    check_eq("the original not", code(), 5);
    unsigned right = 0;
    for (u64 i = 0; i < 512; i += 16) {
        write_return_value((void *)(code_va + i * 8), (u32)i);
        right += ((function)(code_va + i * 8))() == i;
    }
    check_eq("32 routines written into one page, each run", right, 32);
    right = 0;
    for (u64 i = 0; i < 512; i += 16)
        right += ((function)(code_va + i * 8))() == i;
    check_eq("and all run again", right, 32);
    *table_entry(kernel_root, code_va, 1) = 0;
    invlpg((void *)code_va);
    frame_free(frame);
}

static void code_beside_data(void) {
    section("code and data on one page");
    paddr frame = frame_alloc();
    map_page(kernel_root, code_va, frame, PTE_P | PTE_W);
    volatile u64 *counter = (u64 *)(code_va + 0xff8), *near = (u64 *)(code_va + 8);
    write_return_value((void *)code_va, 77);
    unsigned right = 0;
    for (u64 i = 1; i <= 100; i++) {
        *counter += i;
        *near = i;
        right += ((function)code_va)() == 77;
    }
    check_eq("100 stores beside the code, 100 calls", right, 100);
    check_eq("the far word", *counter, 5050);
    check_eq("the near word", *near, 100);
    poke32((void *)(code_va + RETURN_VALUE_AT), 78);
    check_eq("then a store into the code", ((function)code_va)(), 78);
    *table_entry(kernel_root, code_va, 1) = 0;
    invlpg((void *)code_va);
    frame_free(frame);
}

static void over_a_page_end(void) {
    section("an instruction over the end of a page");
    paddr first = frame_alloc(), second = frame_alloc(), third = frame_alloc();
    const u64 end = code_va + PAGE_SIZE;
    map_page(kernel_root, code_va, first, PTE_P | PTE_W);
    map_page(kernel_root, end, second, PTE_P | PTE_W);
    function code = (function)(end - 3);
    write_return_value((void *)(end - 3), 0x11223344); /* b8 44 33 | 22 11 c3 */
    check_eq("run", code(), 0x11223344);
    poke8((void *)end, 0x55);
    check_eq("its second page rewritten", code(), 0x11553344);
    poke8((void *)(end - 1), 0x66);
    check_eq("its first page rewritten", code(), 0x11556644);
    poke32((void *)(end - 2), 0x01020304);
    check_eq("both by one store", code(), 0x01020304);
    volatile u8 *alias = phys_to_virt(second);
    poke8(alias + 1, 0x77);
    serialize();
    check_eq("the second page by another address", code(), 0x77020304);
    u8 *other = phys_to_virt(third);
    other[0] = 0x99;
    other[1] = 0x88;
    other[2] = 0xc3;
    *table_entry(kernel_root, end, 1) = third | PTE_P | PTE_W;
    invlpg((void *)end);
    check_eq("the second page remapped", code(), 0x88990304);
    *table_entry(kernel_root, end, 1) = second | PTE_P | PTE_W;
    invlpg((void *)end);
    check_eq("and back", code(), 0x77020304);
    *table_entry(kernel_root, code_va, 1) = 0;
    *table_entry(kernel_root, end, 1) = 0;
    write_cr3(read_cr3());
    frame_free(first);
    frame_free(second);
    frame_free(third);
}

void test_pages(void) {
    fresh_page();
    code_beside_data();
    over_a_page_end();
}
