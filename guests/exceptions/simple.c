#include "exceptions.h"

#include "check.h"
#include "features.h"
#include "specimen.h"

static void divide_errors(void) {
    section("#DE");
    BOTH_RAISE("32-bit division by zero", div_zero, 0, VEC_DE, 0, at);
    BOTH_RAISE("64-bit division by zero", div_zero64, 0, VEC_DE, 0, at);
    BOTH_RAISE("signed division overflow", idiv_overflow, 0, VEC_DE, 0, at);
    BOTH_RAISE("64-bit quotient overflow", div_overflow64, 0, VEC_DE, 0, at);
    BOTH_RAISE("8-bit quotient overflow", div_overflow8, 0, VEC_DE, 0, at);
}

static void breakpoints(void) {
    section("#BP");
    BOTH_RAISE("int3", int3, 0, VEC_BP, 0, after);
    BOTH_RAISE("int 3 in two bytes", int_3, 0, VEC_BP, 0, after);
}

static void invalid_opcodes(void) {
    section("#UD");
    BOTH_RAISE("ud2", ud2, 0, VEC_UD, 0, at);
    BOTH_RAISE("into in 64-bit mode", into, 0, VEC_UD, 0, at);
    BOTH_RAISE("push es in 64-bit mode", push_es, 0, VEC_UD, 0, at);
    BOTH_RAISE("lock nop", lock_nop, 0, VEC_UD, 0, at);
    BOTH_RAISE("lock add to a register", lock_register, 0, VEC_UD, 0, at);
    if (!skip_on_tcg("lock on a load"))
        BOTH_RAISE("lock on a load", lock_load, 0, VEC_UD, 0, at);
    BOTH_RAISE("mov to cs", mov_to_cs, 0, VEC_UD, 0, at);
    KERNEL_RAISES("mov to cr1", mov_to_cr1, 0, VEC_UD, 0, at);
}

static void device_not_available(void) {
    section("#NM");
    u64 cr0 = read_cr0();
    write_cr0(cr0 | CR0_TS | CR0_MP);
    BOTH_RAISE("x87 with CR0.TS", x87, 0, VEC_NM, 0, at);
    BOTH_RAISE("SSE with CR0.TS", sse, 0, VEC_NM, 0, at);
    BOTH_RAISE("fwait with CR0.TS and MP", fwait, 0, VEC_NM, 0, at);
    write_cr0((cr0 | CR0_TS) & ~(u64)CR0_MP);
    KERNEL_RUNS("fwait with CR0.TS without MP", fwait, 0);
    __asm__ volatile("clts");
    check_eq("clts clears CR0.TS", read_cr0() & CR0_TS, 0);
    KERNEL_RUNS("x87 after clts", x87, 0);
    write_cr0(cr0 | CR0_EM);
    BOTH_RAISE("x87 with CR0.EM", x87, 0, VEC_NM, 0, at);
    BOTH_RAISE("SSE with CR0.EM is #UD", sse, 0, VEC_UD, 0, at);
    write_cr0(cr0);
    write_cr4(read_cr4() & ~(u64)CR4_OSFXSR);
    BOTH_RAISE("SSE without CR4.OSFXSR is #UD", sse, 0, VEC_UD, 0, at);
    write_cr4(read_cr4() | CR4_OSFXSR);
    KERNEL_RUNS("SSE as it was", sse, 0);
}

static void floating_point(void) {
    section("#MF");
    BOTH_RAISE("unmasked x87 zero-divide at the next fwait", x87_divide, 0, VEC_MF, 0, at);
    KERNEL_RUNS("fnclex and fninit do not wait", x87_reset, 0);
}

void test_simple_exceptions(void) {
    divide_errors();
    breakpoints();
    invalid_opcodes();
    device_not_available();
    floating_point();
}
