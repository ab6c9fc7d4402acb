#include "access.h"

#include "traps.h"
#include "user.h"

static u64 operand;

extern const u8 user_load_code[], user_store_code[];

static u64 outcome(const struct trap *trap, u64 value) {
    if (!trap->raised || trap->frame.vector == VEC_USER_EXIT)
        return value;
    if (trap->frame.vector == VEC_PF)
        return FAULTED | trap->frame.error;
    return FAULTED | trap->frame.vector << 32 | trap->frame.error;
}

static void do_load(u64 va) { operand = *(volatile u64 *)va; }
static void do_store(u64 va) { *(volatile u64 *)va = operand; }
static void do_run(u64 va) { operand = ((u64(*)(void))va)(); }

u64 load(u64 va) {
    struct trap trap;
    catch_trap(&trap, do_load, va);
    return outcome(&trap, operand);
}

u64 store(u64 va, u64 value) {
    struct trap trap;
    operand = value;
    catch_trap(&trap, do_store, va);
    return outcome(&trap, 0);
}

u64 run(u64 va) {
    struct trap trap;
    catch_trap(&trap, do_run, va);
    return outcome(&trap, operand);
}

u64 user_load(u64 va) {
    struct trap trap;
    run_user(&trap, user_load_code, va);
    return outcome(&trap, trap.frame.rax);
}

u64 user_store(u64 va, u64 value) {
    struct trap trap;
    *(volatile u64 *)(USER_STACK_TOP - 8) = value; /* where user_store_code takes it from */
    run_user(&trap, user_store_code, va);
    return outcome(&trap, 0);
}

paddr marked_frame(u64 marker) {
    paddr frame = frame_alloc();
    words(frame)[0] = marker;
    return frame;
}

paddr code_frame(u32 value) {
    static const u8 opcode_mov_eax = 0xb8, opcode_ret = 0xc3;
    paddr frame = frame_alloc();
    u8 *code = phys_to_virt(frame);
    code[0] = opcode_mov_eax;
    *(u32 *)&code[1] = value;
    code[5] = opcode_ret;
    return frame;
}

paddr frame_run(unsigned count) {
    static __attribute__((aligned(0x10000))) u8 frames[16 * PAGE_SIZE]; /* 64 KiB aligned: they differ in bits 12-15 */
    static unsigned used;
    paddr first = virt_to_phys(frames) + used * PAGE_SIZE;
    used += count;
    return first;
}
