/* Integer instructions whose flags or partial results are easy to get wrong, and the atomic ones. */
#include "selftest.h"

#include "check.h"
#include "features.h"

enum { AF = 0x10, PF = 4, STATUS = RFLAGS_CF | PF | AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF };

/* The flags after `instruction` on %rax = a, %rcx = b; the result in `result`. */
#define FLAGS_OF(instruction, a, b)                                                                      \
    ({                                                                                                   \
        u64 flags_, b_ = (b);                                                                            \
        result = (a);                                                                                    \
        __asm__ volatile(instruction "; pushfq; popq %1" : "+a"(result), "=r"(flags_), "+c"(b_) : : "cc", "rdx", "memory"); \
        flags_ & STATUS;                                                                                 \
    })

static void flags(void) {
    u64 result;
    section("flags");
    check_eq("add: carry and zero", FLAGS_OF("add %%rcx, %%rax", ~0ull, 1), RFLAGS_CF | PF | AF | RFLAGS_ZF);
    check_eq("add: overflow", FLAGS_OF("add %%rcx, %%rax", 0x7fffffffffffffff, 1), PF | AF | RFLAGS_SF | RFLAGS_OF);
    check_eq("sub: borrow", FLAGS_OF("sub %%rcx, %%rax", 0, 1), RFLAGS_CF | PF | AF | RFLAGS_SF);
    check_eq("addl clears the upper half", (FLAGS_OF("addl %%ecx, %%eax", 0xaaaaaaaa00000001, 1), result), 2);
    check_eq("addw leaves it", (FLAGS_OF("addw %%cx, %%ax", 0xaaaaaaaa0000ffff, 1), result), 0xaaaaaaaa00000000);
    check_eq("addb to ah", (FLAGS_OF("addb %%cl, %%ah", 0x1ff00, 1), result), 0x10000);
    check_eq("inc leaves CF", FLAGS_OF("stc; inc %%eax", 0xffffffff, 0), RFLAGS_CF | PF | AF | RFLAGS_ZF);
    check_eq("adc with carry", (FLAGS_OF("stc; adc %%rcx, %%rax", 5, 6), result), 12);
    check_eq("sbb with borrow", (FLAGS_OF("stc; sbb %%rcx, %%rax", 5, 5), result), ~0ull);
    check_eq("neg of 0 clears CF", FLAGS_OF("neg %%rax", 0, 0), PF | RFLAGS_ZF);
    check_eq("and clears CF and OF", FLAGS_OF("stc; and %%rcx, %%rax", 0xff, 0x80) & ~(u64)AF, 0);
    check_eq("shl by 1: CF and OF", FLAGS_OF("shl $1, %%rax", 1ull << 63 | 1, 0) & (RFLAGS_CF | RFLAGS_OF),
             RFLAGS_CF | RFLAGS_OF);
    check_eq("a shift by 64 is none, flags stay", FLAGS_OF("stc; shl %%cl, %%rax", 5, 64) & RFLAGS_CF, RFLAGS_CF);
    check_eq("and so does the value", result, 5);
    check_eq("sar keeps the sign", (FLAGS_OF("sar $4, %%rax", 0x8000000000000000, 0), result), 0xf800000000000000);
    check_eq("rcl through carry", (FLAGS_OF("stc; rcl $1, %%rax", 1ull << 63, 0), result), 1);
    check_eq("rcr through carry", (FLAGS_OF("stc; rcr $1, %%rax", 0, 0), result), 1ull << 63);
    check_eq("shld", (FLAGS_OF("shld $8, %%rcx, %%rax", 1, 0xab00000000000000), result), 0x1ab);
    check_eq("shrd", (FLAGS_OF("shrd $8, %%rcx, %%rax", 0x100, 0xab), result), 0xab00000000000001);
    check_eq("bsf", (FLAGS_OF("bsf %%rcx, %%rax", 0, 0x8000000000), result), 39);
    check_eq("bsr", (FLAGS_OF("bsr %%rcx, %%rax", 0, 0x8000000001), result), 39);
    check_eq("bsf of 0 sets ZF", FLAGS_OF("bsf %%rcx, %%rax", 9, 0) & RFLAGS_ZF, RFLAGS_ZF);
    check_eq("bt", FLAGS_OF("bt $63, %%rax", 1ull << 63, 0) & RFLAGS_CF, RFLAGS_CF);
    check_eq("btr", (FLAGS_OF("btr %%rcx, %%rax", 0xff, 67), result), 0xf7);
    check_eq("bswap", (FLAGS_OF("bswap %%rax", 0x0102030405060708, 0), result), 0x0807060504030201);
    check_eq("movsxd", (FLAGS_OF("movslq %%ecx, %%rax", 0, 0x80000000), result), 0xffffffff80000000);
    check_eq("cmov not taken clears the upper half", (FLAGS_OF("clc; cmovcl %%ecx, %%eax", 0xff00000001, 7), result), 1);
    check_eq("lahf", (FLAGS_OF("stc; mov $0, %%eax; lahf", 0, 0), result) & 0x100, 0x100);
    check_eq("sahf", FLAGS_OF("sahf", 0xd500, 0), RFLAGS_CF | PF | AF | RFLAGS_ZF | RFLAGS_SF);
    check_eq("cmc", FLAGS_OF("stc; cmc", 0, 0) & RFLAGS_CF, 0);
    check_eq("xlat", (FLAGS_OF("push %%rbx; mov %%rcx, %%rbx; xlat; pop %%rbx", 2, (u64) "abcdef"), result), 'c');
}

static void products(void) {
    section("multiply and divide");
    u64 low, high, flags;
    const u64 a = 0xfedcba9876543210, b = 0x123456789abcdef1;
    __asm__("mul %3" : "=a"(low), "=d"(high) : "a"(a), "r"(b) : "cc");
    check("mul", low == 0x224a4396cc6d0110 && high == 0x121fa00ad77d7423);
    __asm__("imul %3" : "=a"(low), "=d"(high) : "a"(a), "r"(b) : "cc");
    check("imul", low == 0x224a4396cc6d0110 && high == 0xffeb49923cc09532);
    __asm__("div %4" : "=a"(low), "=d"(high) : "a"(0x456789abcdef0123), "d"(0x123ull), "r"(0xfedcba9876543211) : "cc");
    check("div of 128 bits", low == 0x124 && high == 0x91a2b3c4d5e5e5bf);
    __asm__("cqto; idiv %4" : "=a"(low), "=&d"(high) : "0"(-7ll), "1"(0ull), "r"(2ull) : "cc");
    check("idiv rounds towards 0", low == (u64)-3 && high == (u64)-1);
    __asm__("imul $1000, %1, %0" : "=r"(high) : "r"(low) : "cc");
    check_eq("imul with a constant", high, (u64)-3000);
    __asm__("imul %2, %0; pushfq; popq %1" : "+r"(high), "=r"(flags) : "r"(low) : "cc");
    check_eq("imul that fits clears CF and OF", flags & (RFLAGS_CF | RFLAGS_OF), 0);
}

static void atomics(void) {
    section("atomic instructions");
    static u64 word __attribute__((aligned(16)));
    static u64 pair[2] __attribute__((aligned(16)));
    u64 old;
    u8 done;
    word = 5;
    old = 6;
    __asm__ volatile("xchg %0, %1" : "+r"(old), "+m"(word));
    check("xchg", old == 5 && word == 6);
    old = 6;
    __asm__ volatile("lock cmpxchgq %3, %1; setz %2" : "+a"(old), "+m"(word), "=q"(done) : "r"(9ull) : "cc");
    check("cmpxchg: equal", done && word == 9);
    old = 6;
    __asm__ volatile("lock cmpxchgq %3, %1; setz %2" : "+a"(old), "+m"(word), "=q"(done) : "r"(10ull) : "cc");
    check("cmpxchg: not equal, the value comes back", !done && word == 9 && old == 9);
    old = 0xffffffff00000009;
    __asm__ volatile("lock cmpxchgl %k3, %1; setz %2" : "+a"(old), "+m"(word), "=q"(done) : "r"(0x77ull) : "cc");
    check("cmpxchg of 4 bytes", done && word == 0x77);
    old = 0xaa00;
    __asm__ volatile("lock cmpxchgb %b3, %1; setz %2" : "+a"(old), "+m"(word), "=q"(done) : "q"(1ull) : "cc");
    check("cmpxchg of 1 byte, not equal: al only", !done && old == 0xaa77);
    old = 3;
    __asm__ volatile("lock xaddq %0, %1" : "+r"(old), "+m"(word) : : "cc");
    check("xadd", old == 0x77 && word == 0x7a);
    __asm__ volatile("lock incq %0; lock orq $0x100, %0; lock btsq $20, %0; lock negq %0" : "+m"(word) : : "cc");
    check_eq("inc, or, bts, neg", word, -(u64)0x10017b);
    pair[0] = 0x1111111122222222;
    u32 eax = 0x22222222, edx = 0x11111111;
    __asm__ volatile("lock cmpxchg8b %2; setz %3" : "+a"(eax), "+d"(edx), "+m"(pair[0]), "=q"(done) : "b"(3), "c"(4) : "cc");
    check("cmpxchg8b", done && pair[0] == 0x400000003);
    if (!cpu.cmpxchg16b) {
        skip("cmpxchg16b", "CPUID has none");
        return;
    }
    pair[1] = 7;
    u64 low = 0x400000003, high = 7;
    __asm__ volatile("lock cmpxchg16b %2; setz %3" : "+a"(low), "+d"(high), "+m"(pair), "=q"(done) : "b"(8ull), "c"(9ull) : "cc");
    check("cmpxchg16b: equal", done && pair[0] == 8 && pair[1] == 9);
    __asm__ volatile("lock cmpxchg16b %2; setz %3" : "+a"(low), "+d"(high), "+m"(pair), "=q"(done) : "b"(1ull), "c"(2ull) : "cc");
    check("cmpxchg16b: not equal", !done && low == 8 && high == 9 && pair[1] == 9);
}

void test_arithmetic(void) {
    flags();
    products();
    atomics();
}
