/* Every way for control to go somewhere else. */
#include "selftest.h"

#include "check.h"

#define ROUTINES(X) \
    X(call_register, 2) X(call_memory_rip, 3) X(call_memory_base, 4) X(call_stack_slot, 3) X(call_rsp_register, 4) \
    X(jump_register, 2) X(jump_memory, 2) X(jump_by_return, 3) X(return_and_pop, 11) X(changed_return_address, 200) \
    X(call_pop, 0) X(far_return, 31) X(far_jump, 32) X(far_call, 41) X(interrupt_return, 34) X(loops, 125) \
    X(frames, 15) X(stack_oddities, 0)

static void routines(void) {
    section("calls, jumps, returns");
#define DECLARE(name, want) u64 name(void);
    ROUTINES(DECLARE)
    static const struct {
        const char *name;
        u64 (*run)(void);
        u64 want;
    } table[] = {
#define ENTRY(name, want) {#name, name, want},
        ROUTINES(ENTRY)};
    for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++)
        check_eq(table[i].name, table[i].run(), table[i].want);
}

static void tables(void) {
    u64 call_table(u64 index), jump_table(u64 index), recursive_sum(u64 n);
    unsigned right = 0;
    for (u64 i = 0; i < 40; i++) {
        right += call_table(i * 3 % 4) == i * 3 % 4 + 1;
        right += jump_table(i * 5 % 4) == i * 5 % 4 + 11;
    }
    check_eq("call and jump through a table, 80 times", right, 80);
    check_eq("recursion, 500 deep", recursive_sum(500), 125250);
    check_eq("and again", recursive_sum(100), 5050);
}

/* Condition n as SDM vol. 1, appendix B, has it. */
static bool holds(unsigned n, u64 flags) {
    bool cf = flags & RFLAGS_CF, zf = flags & RFLAGS_ZF, sf = flags & RFLAGS_SF, of = flags & RFLAGS_OF, pf = flags & 4;
    bool even[8] = {of, cf, zf, cf || zf, sf, pf, sf != of, zf || sf != of};
    return even[n / 2] != (n & 1);
}

static void conditions_of_flags(void) {
    u64 conditions(u64 flags);
    unsigned right = 0;
    for (unsigned i = 0; i < 32; i++) {
        u64 flags = RFLAGS_FIXED | (i & 1 ? RFLAGS_CF : 0) | (i & 2 ? 4 : 0) | (i & 4 ? RFLAGS_ZF : 0) |
                    (i & 8 ? RFLAGS_SF : 0) | (i & 16 ? RFLAGS_OF : 0);
        u32 want = 0;
        for (unsigned n = 0; n < 16; n++)
            want |= (holds(n, flags) ? 0x10001u : 0) << n;
        right += (u32)conditions(flags) == want;
    }
    check_eq("16 conditions under 32 sets of flags, jcc and setcc", right, 32);
}

void test_transfers(void) {
    routines();
    tables();
    conditions_of_flags();
}
