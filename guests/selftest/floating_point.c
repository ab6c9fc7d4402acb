/* SSE2 and x87 basics. The doubles are written as their bits: ONE is 1.0, and so on. */
#include "selftest.h"

#include "check.h"

#define ZERO 0ull
#define ONE 0x3ff0000000000000ull
#define TWO 0x4000000000000000ull
#define THREE 0x4008000000000000ull
#define HALF 0x3fe0000000000000ull
#define TEN 0x4024000000000000ull
#define INFINITE 0x7ff0000000000000ull
#define NOT_A_NUMBER 0x7ff8000000000000ull
#define MINUS (1ull << 63)

u64 sse_add(u64 a, u64 b), sse_multiply_add(u64 a, u64 b), sse_divide(u64 a, u64 b), sse_square_root(u64 a),
    sse_to_integer(u64 a), sse_round(u64 a), sse_from_integer(u64 a), sse_compare(u64 a, u64 b),
    sse_packed(const u32 *a, const u32 *b, u64 *result), x87_mix(u64 a), x87_stack(void), x87_compare(void),
    save_and_restore(void *area);

static void sse(void) {
    section("SSE2");
    check_eq("1 + 2", sse_add(ONE, TWO), THREE);
    check_eq("0.1 + 0.2", sse_add(0x3fb999999999999a, 0x3fc999999999999a), 0x3fd3333333333334);
    check_eq("2 * 0.5 + 2", sse_multiply_add(TWO, HALF), THREE);
    check_eq("1 / 3", sse_divide(ONE, THREE), 0x3fd5555555555555);
    check_eq("1 / 0", sse_divide(ONE, ZERO), INFINITE);
    check_eq("0 / 0", sse_divide(ZERO, ZERO), NOT_A_NUMBER | MINUS);
    check_eq("sqrt(2)", sse_square_root(TWO), 0x3ff6a09e667f3bcd);
    check_eq("-2.5 truncated", sse_to_integer(MINUS | 0x4004000000000000), (u64)-2);
    check_eq("2.5 rounded", sse_round(0x4004000000000000), 2);
    check_eq("too big for an integer", sse_to_integer(INFINITE), MINUS);
    check_eq("10 from an integer", sse_from_integer(10), TEN);
    check_eq("1 < 2", sse_compare(ONE, TWO), 1);
    check_eq("2 = 2", sse_compare(TWO, TWO), 2);
    check_eq("2 > 1", sse_compare(TWO, ONE), 0);
    check_eq("not a number", sse_compare(NOT_A_NUMBER, ONE), 7);
    static const u32 a[4] = {1, 0xffffffff, 3, 0x80000000}, b[4] = {10, 1, 0x20000000, 0x80000000};
    u64 result[6];
    check_eq("pmovmskb", sse_packed(a, b, result), 0x80f0);
    check_eq("paddd: low", result[0], 0x000000000000000b);
    check_eq("paddd: high", result[1], 0x0000000020000003);
    check_eq("pmuludq: low", result[2], 10);
    check_eq("pmuludq: high", result[3], 0x60000000);
    check_eq("pshufd turns round", result[5], 0x0000000b00000000);
}

static void x87(void) {
    section("x87");
    check_eq("sqrt(10^12) * pi", x87_mix(1000000000000), 3141593);
    check_eq("a stack of three", x87_stack(), 0x602);
    check_eq("fcomi", x87_compare(), 1);
    static u8 area[512] __attribute__((aligned(16)));
    check_eq("fxsave and fxrstor", save_and_restore(area), 1);
}

void test_floating_point(void) {
    sse();
    x87();
}
