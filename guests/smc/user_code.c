/* Ring 3 writes its own code; and the kernel writes ring 3's. */
#include "smc.h"

#include "check.h"
#include "user.h"

extern u8 user_patch_next[], user_patch_loop[], user_write_and_call[], user_return_value[];

/* The compiler must not address ring 3's code relative to RIP: from the higher half it is out of reach. */
static u8 *out_of_reach(u8 *code) {
    __asm__("" : "+r"(code));
    return code;
}

static u64 result_of(const void *code, u64 arg, u64 *rbx) {
    struct trap trap;
    run_user(&trap, code, arg);
    if (rbx)
        *rbx = trap.frame.rbx;
    return trap.frame.vector == VEC_USER_EXIT ? trap.frame.rax : ~trap.frame.vector;
}

void test_user_code(void) {
    section("ring 3");
    for (u32 i = 0; i < 3; i++)
        check_eq("stores into its next instruction", result_of(user_patch_next, 0x80 + i, NULL), 0x80 + i);
    check_eq("rewrites its loop", result_of(user_patch_loop, 30, NULL), 465);
    u64 first, page = code_va;
    map_page(kernel_root, page, frame_alloc(), PTE_P | PTE_W | PTE_U);
    check_eq("writes a page, calls it, patches it, calls it", result_of(user_write_and_call, page, &first), 0x5a5b);
    check_eq("the first call", first, 0x5a5a);
    check_eq("all that again", result_of(user_write_and_call, page, &first), 0x5a5b);

    check_eq("code from the image", result_of(user_return_value, 0, NULL), 0x77777777);
    poke32(out_of_reach(user_return_value) + RETURN_VALUE_AT, 0x88);
    check_eq("patched by the kernel", result_of(user_return_value, 0, NULL), 0x88);
    paddr frame = *table_entry(kernel_root, (u64)user_return_value, 1) & PTE_ADDRESS;
    poke32(phys_to_virt(frame + ((u64)user_return_value & (PAGE_SIZE - 1)) + RETURN_VALUE_AT), 0x89);
    check_eq("patched by the kernel through the direct map", result_of(user_return_value, 0, NULL), 0x89);

    /* Copy on write, as after fork(): ring 3 stores into a shared read-only code page and gets a copy */
    paddr copy = frame_alloc();
    u64 *pte = table_entry(kernel_root, page, 1), shared = *pte & PTE_ADDRESS;
    *pte = shared | PTE_P | PTE_U;
    invlpg((void *)page);
    struct trap trap;
    run_user(&trap, user_write_and_call, page);
    check_trap("copy on write: the store faults", &trap, VEC_PF, PF_P | PF_W | PF_U, user_write_and_call, page);
    for (unsigned i = 0; i < 512; i++)
        ((u64 *)phys_to_virt(copy))[i] = ((u64 *)phys_to_virt(shared))[i];
    *pte = copy | PTE_P | PTE_W | PTE_U;
    invlpg((void *)page);
    check_eq("copy on write: the copy is patched and run", result_of(user_write_and_call, page, NULL), 0x5a5b);
    poke32(phys_to_virt(shared + RETURN_VALUE_AT), 0x6000);
    *pte = shared | PTE_P | PTE_U;
    invlpg((void *)page);
    serialize();
    check_eq("copy on write: the original is as the kernel left it", ((function)page)(), 0x6000);
}
