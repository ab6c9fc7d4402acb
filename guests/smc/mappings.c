/* Code seen by more than one address, and addresses that come to mean other code. */
#include "smc.h"

#include "check.h"
#include "features.h"
#include "traps.h"

static const u64 write_va = ((u64)SLOT_SMC << 39) + 64 * PAGE_SIZE;

static void unmap(u64 va) {
    *table_entry(kernel_root, va, 1) = 0;
    invlpg((void *)va);
}

static void aliases(void) {
    section("written by one address, run by another");
    const u64 nx = cpu.nx ? PTE_NX : 0;
    paddr frame = frame_alloc();
    map_page(kernel_root, code_va, frame, PTE_P);
    map_page(kernel_root, write_va, frame, PTE_P | PTE_W | nx);
    write_return_value((void *)write_va, 1);
    serialize();
    check_eq("the code page is read-only, its alias is not", ((function)code_va)(), 1);
    unsigned right = 0;
    for (u32 i = 0; i < 50; i++) {
        poke32((void *)(write_va + RETURN_VALUE_AT), i);
        serialize();
        right += ((function)code_va)() == i;
    }
    check_eq("50 patches through the alias", right, 50);
    poke32(phys_to_virt(frame + RETURN_VALUE_AT), 0x51);
    serialize();
    check_eq("through the direct map", ((function)code_va)(), 0x51);

    /* A third address that runs it, too */
    const u64 twin = code_va + 9 * PAGE_SIZE;
    map_page(kernel_root, twin, frame, PTE_P);
    check_eq("a second executable address", ((function)twin)(), 0x51);
    poke32((void *)(write_va + RETURN_VALUE_AT), 0x52);
    serialize();
    check_eq("patched: seen by the first", ((function)code_va)(), 0x52);
    check_eq("patched: seen by the second", ((function)twin)(), 0x52);
    unmap(twin);
    unmap(write_va);
    unmap(code_va);
    frame_free(frame);
}

static void remapped(void) {
    section("one address, other frames");
    paddr frames[4];
    for (u32 i = 0; i < 4; i++) {
        frames[i] = frame_alloc();
        write_return_value(phys_to_virt(frames[i]), 0x60 + i);
    }
    serialize();
    unsigned right = 0;
    for (u32 i = 0; i < 16; i++) {
        map_page(kernel_root, code_va, frames[i % 4], PTE_P);
        invlpg((void *)code_va);
        right += ((function)code_va)() == 0x60 + i % 4;
    }
    check_eq("remapped and called 16 times", right, 16);
    poke32(phys_to_virt(frames[1] + RETURN_VALUE_AT), 0x99); /* while it is mapped nowhere else */
    map_page(kernel_root, code_va, frames[1], PTE_P);
    invlpg((void *)code_va);
    check_eq("changed while it was not mapped", ((function)code_va)(), 0x99);

    /* A caller in one page, what it calls in the next: the next is remapped under it */
    const u64 callee = code_va + PAGE_SIZE;
    u8 *caller = phys_to_virt(frames[0]);
    caller[0] = 0xe8; /* call code_va + PAGE_SIZE; ret */
    *(u32 *)&caller[1] = PAGE_SIZE - 5;
    caller[5] = 0xc3;
    map_page(kernel_root, code_va, frames[0], PTE_P);
    invlpg((void *)code_va);
    for (u32 i = 2; i < 4; i++) {
        map_page(kernel_root, callee, frames[i], PTE_P);
        invlpg((void *)callee);
        check_eq("a call into the next page, remapped", ((function)code_va)(), 0x60 + i);
    }
    unmap(callee);
    struct trap trap;
    catch_trap(&trap, (void (*)(u64))code_va, 0);
    check_trap("and unmapped: faults at the callee", &trap, VEC_PF, cpu.nx ? PF_I : 0, (void *)callee, callee);

    /* Another address space: the same address is other code there */
    paddr other = new_root();
    map_page(other, code_va, frames[2], PTE_P);
    map_page(kernel_root, code_va, frames[3], PTE_P);
    right = 0;
    for (int i = 0; i < 8; i++) {
        write_cr3(i & 1 ? other : kernel_root);
        right += ((function)code_va)() == (i & 1 ? 0x62u : 0x63u);
    }
    write_cr3(kernel_root);
    check_eq("other code at the same address of another root", right, 8);
    frame_free(other);
    unmap(code_va);
    for (u32 i = 0; i < 4; i++)
        frame_free(frames[i]);
}

static volatile unsigned write_faults;

static bool make_writable(struct frame *frame) {
    if (frame->error != (PF_P | PF_W))
        return false;
    write_faults++;
    u64 va = read_cr2();
    *table_entry(kernel_root, va, 1) |= PTE_W;
    invlpg((void *)va);
    return true;
}

static void read_only_code(void) {
    section("code that is read-only until written to");
    paddr frame = frame_alloc();
    write_return_value(phys_to_virt(frame), 5);
    map_page(kernel_root, code_va, frame, PTE_P);
    check_eq("runs", ((function)code_va)(), 5);
    write_faults = 0;
    set_trap_handler(VEC_PF, make_writable);
    poke32((void *)(code_va + RETURN_VALUE_AT), 6);
    set_trap_handler(VEC_PF, NULL);
    check_eq("a store faults once, and is then done", write_faults, 1);
    check_eq("runs as written", ((function)code_va)(), 6);
    *table_entry(kernel_root, code_va, 1) &= ~PTE_W;
    invlpg((void *)code_va);
    check_eq("read-only again, runs", ((function)code_va)(), 6);
    if (cpu.nx) {
        *table_entry(kernel_root, code_va, 1) |= PTE_W | PTE_NX;
        invlpg((void *)code_va);
        poke32((void *)(code_va + RETURN_VALUE_AT), 7); /* as a JIT compiler with W^X does it */
        *table_entry(kernel_root, code_va, 1) = frame | PTE_P;
        invlpg((void *)code_va);
        check_eq("written while not executable, then run", ((function)code_va)(), 7);
    }
    unmap(code_va);
    frame_free(frame);
}

void test_mappings(void) {
    aliases();
    remapped();
    read_only_code();
}
