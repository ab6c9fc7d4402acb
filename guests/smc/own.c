/* Stores into the code that runs: the CPU that does the store must execute the new bytes, at once. */
#include "smc.h"

#include "check.h"

extern u8 patched_page[], patched_page_end[];
u64 patch_and_call(u32 value), patch_next_instruction(u32 value), patch_a_byte_ahead(u8 low), patch_opcode_ahead(void),
    patch_loop_body(u32 rounds), patch_branch(u32 rounds), patch_behind(u32 value), patch_by_rep(const void *source), patch_by_push(u64 code),
    count_in_code(void);

static void next_function(void) {
    section("the next function");
    for (u32 i = 0; i < 5; i++)
        check_eq("store, call", patch_and_call(0x1000 + i), 0x1000 + i);
    unsigned right = 0;
    for (u32 i = 0; i < 200; i++)
        right += patch_and_call(i) == i;
    check_eq("200 times", right, 200);
}

static void same_block(void) {
    section("the same basic block");
    for (u32 i = 1; i <= 3; i++)
        check_eq("the very next instruction", patch_next_instruction(0x2000 + i), 0x2000 + i);
    check_eq("one byte, four instructions ahead", patch_a_byte_ahead(0x30), 0x22222236);
    check_eq("and another", patch_a_byte_ahead(0x40), 0x22222246);
    for (int i = 0; i < 3; i++)
        check_eq("another instruction just ahead", patch_opcode_ahead(), 1);
    check_eq("code behind, then jumped to", patch_behind(0x3001), 0x3001);
    check_eq("the same again", patch_behind(0x3002), 0x3002);
}

static void loops(void) {
    section("loops");
    check_eq("the body is rewritten each round: 10 rounds", patch_loop_body(10), 55);
    check_eq("100 rounds", patch_loop_body(100), 5050);
    check_eq("10 again", patch_loop_body(10), 55);
    check_eq("the loop's own jump is rewritten to end it", patch_branch(50), 50);
    check_eq("and back, for another run", patch_branch(7), 7);
}

static void other_stores(void) {
    section("other kinds of stores");
    static const u8 mov_eax[] = {0xb8, 0x01, 0x40, 0, 0}, other_mov_eax[] = {0xb8, 0x02, 0x40, 0, 0};
    check_eq("rep movsb over what follows it", patch_by_rep(mov_eax), 0x4001);
    check_eq("and again", patch_by_rep(other_mov_eax), 0x4002);
    check_eq("push into what follows", patch_by_push(0x90909000005001b8), 0x5001);
    check_eq("and again", patch_by_push(0x90909000005002b8), 0x5002);
    for (u32 i = 1; i <= 20; i++)
        if (count_in_code() != i) {
            check("a counter beside its code", false);
            return;
        }
    check("a counter beside its code", true);
}

void test_own_code(void) {
    for (u64 va = (u64)patched_page; va < (u64)patched_page_end; va += PAGE_SIZE) {
        *table_entry(kernel_root, va, 1) |= PTE_W;
        invlpg((void *)va);
    }
    next_function();
    same_block();
    loops();
    other_stores();
}
