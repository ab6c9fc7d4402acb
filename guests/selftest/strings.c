/* String instructions: every width, both directions, with and without rep, and where they stop. */
#include "selftest.h"

#include "check.h"
#include "paging.h"

static u8 source[256], target[256];

/* One string instruction with its registers; DF as asked for, clear afterwards. */
#define STRING(instruction, down)                                                                       \
    __asm__ volatile("testb %4, %4; jz 1f; std; 1: " instruction "; cld"                                \
                     : "+S"(from), "+D"(to), "+c"(count), "+a"(rax)                                     \
                     : "q"((u8)(down))                                                                  \
                     : "memory", "cc")
/* The same, and whether it ended with ZF set. */
#define COMPARE(instruction)                                                                            \
    __asm__ volatile(instruction "; setz %4" : "+S"(from), "+D"(to), "+c"(count), "+a"(rax), "=q"(equal) : : "memory", "cc")

static u64 from, to, count, rax;
static u8 equal;

static void fill(void) {
    for (unsigned i = 0; i < sizeof source; i++) {
        source[i] = (u8)(i * 7 + 1);
        target[i] = 0;
    }
}

static void prepare(unsigned from_at, unsigned to_at, u64 n) {
    fill();
    from = (u64)&source[from_at];
    to = (u64)&target[to_at];
    count = n;
    rax = 0x1122334455667788;
}

/* target[at .. at + size) is source[from_at ..), and there is nothing around it. */
static bool copied(unsigned from_at, unsigned at, unsigned size) {
    for (unsigned i = 0; i < sizeof target; i++)
        if (target[i] != (i >= at && i < at + size ? source[from_at + i - at] : 0))
            return false;
    return true;
}

static void moves(void) {
    section("movs");
#define MOVES(letter, width)                                                                                   \
    prepare(3, 5, 9);                                                                                          \
    STRING("rep movs" letter, false);                                                                          \
    check("rep movs" letter, copied(3, 5, 9 * (width)));                                                       \
    check("rep movs" letter ": registers",                                                                     \
          from == (u64)&source[3 + 9 * (width)] && to == (u64)&target[5 + 9 * (width)] && !count);              \
    prepare(100, 120, 9);                                                                                      \
    STRING("rep movs" letter, true);                                                                           \
    check("rep movs" letter " downwards", copied(100 - 8 * (width), 120 - 8 * (width), 9 * (width)));          \
    check("rep movs" letter " downwards: registers",                                                           \
          from == (u64)&source[100] - 9 * (width) && to == (u64)&target[120] - 9 * (width) && !count);         \
    prepare(0, 0, 0);                                                                                          \
    STRING("rep movs" letter, false);                                                                          \
    check("rep movs" letter " of nothing", copied(0, 0, 0) && from == (u64)source && to == (u64)target);       \
    prepare(16, 16, 77);                                                                                       \
    STRING("movs" letter, false);                                                                              \
    check("movs" letter " once, count untouched", copied(16, 16, width) && count == 77)
    MOVES("b", 1);
    MOVES("w", 2);
    MOVES("l", 4);
    MOVES("q", 8);
#undef MOVES

    fill();
    from = (u64)source;
    to = (u64)source + 1;
    count = 100;
    STRING("rep movsb", false);
    bool filled = true;
    for (unsigned i = 0; i <= 100; i++)
        filled &= source[i] == 1;
    check("an overlap of one byte fills", filled && source[101] == (u8)(101 * 7 + 1));
    fill();
    from = (u64)source + 99;
    to = (u64)source + 100;
    count = 100;
    STRING("rep movsb", true);
    bool moved = source[0] == 1;
    for (unsigned i = 0; i < 100; i++)
        moved &= source[i + 1] == (u8)(i * 7 + 1);
    check("downwards it moves", moved);

    /* With 32-bit addresses ecx, esi and edi count: the page at LOW is below 4 GiB */
    enum { LOW = 0x900000 };
    map_page(kernel_root, LOW, frame_alloc(), PTE_P | PTE_W);
    *(volatile u32 *)LOW = 0x12345678;
    from = 0x1111111100000000 | LOW;
    to = 0x2222222200000008 | LOW;
    count = 0x3333333300000004;
    STRING("addr32 rep movsb", false);
    check_eq("rep movsb with 32-bit addresses", *(volatile u32 *)(LOW + 8), 0x12345678);
    check("its registers", (u32)from == LOW + 4 && (u32)to == LOW + 12 && !(u32)count);
}

static void stores_and_loads(void) {
    section("stos, lods");
#define STORES(letter, width)                                                                    \
    prepare(0, 32, 5);                                                                           \
    for (unsigned i = 0; i < 5 * (width); i++)                                                   \
        source[i] = ((u8 *)&rax)[i % (width)];                                                   \
    STRING("rep stos" letter, false);                                                            \
    check("rep stos" letter, copied(0, 32, 5 * (width)) && !count && to == (u64)&target[32 + 5 * (width)]); \
    prepare(0, 64, 5);                                                                           \
    for (unsigned i = 0; i < 5 * (width); i++)                                                   \
        source[i] = ((u8 *)&rax)[i % (width)];                                                   \
    STRING("rep stos" letter, true);                                                             \
    check("rep stos" letter " downwards", copied(0, 64 - 4 * (width), 5 * (width)))
    STORES("b", 1);
    STORES("w", 2);
    STORES("l", 4);
    STORES("q", 8);
#undef STORES
    prepare(8, 0, 0);
    STRING("lodsb", false);
    check_eq("lodsb leaves the rest of rax", rax, 0x1122334455667700 | source[8]);
    STRING("lodsl", false);
    check_eq("lodsl clears the upper half", rax, *(u32 *)&source[9]);
    prepare(8, 0, 0);
    STRING("lodsq", true);
    check("lodsq downwards", rax == *(u64 *)&source[8] && from == (u64)source);
}

static void comparisons(void) {
    section("cmps, scas");
    prepare(0, 0, 50);
    for (unsigned i = 0; i < 50; i++)
        target[i] = source[i];
    COMPARE("repe cmpsb");
    check("repe cmpsb of equal bytes", equal && !count);
    target[20] ^= 1;
    prepare(0, 0, 50);
    for (unsigned i = 0; i < 50; i++)
        target[i] = source[i] ^ (i == 20);
    COMPARE("repe cmpsb");
    check("repe cmpsb stops behind the difference", !equal && count == 29 && from == (u64)&source[21]);
    prepare(0, 0, 6);
    for (unsigned i = 0; i < 48; i++)
        target[i] = source[i];
    target[47]++;
    COMPARE("repe cmpsq");
    check("repe cmpsq: a difference in the last word", !equal && !count);
    prepare(0, 0, 10);
    target[7] = source[7];
    COMPARE("repne cmpsb");
    check("repne cmpsb stops behind the first equal", equal && count == 2);
    prepare(0, 0, 200);
    target[150] = 0x88;
    COMPARE("repne scasb");
    check("repne scasb finds a byte", equal && count == 49 && to == (u64)&target[151]);
    prepare(0, 0, 100);
    COMPARE("repne scasb");
    check("repne scasb does not find one", !equal && !count);
    prepare(0, 0, 20);
    rax = 0;
    *(u32 *)&target[40] = 1;
    COMPARE("repe scasl");
    check("repe scasl skips zeroes", !equal && to == (u64)&target[44]);
    prepare(0, 80, 20);
    *(u16 *)&target[60] = 0x7788;
    __asm__ volatile("std" : : : "cc");
    COMPARE("repne scasw");
    __asm__ volatile("cld" : : : "cc");
    check("repne scasw downwards", equal && to == (u64)&target[58] && count == 9);
}

static void long_copies(void) {
    section("over pages");
    static u64 here[1536], there[1536];
    for (u64 i = 0; i < 1536; i++)
        here[i] = i * 0x9e3779b97f4a7c15;
    from = (u64)here + 3;
    to = (u64)there + 5;
    count = sizeof here - 16;
    STRING("rep movsb", false);
    bool same = true;
    for (u64 i = 0; i < sizeof here - 16; i++)
        same &= ((u8 *)here)[i + 3] == ((u8 *)there)[i + 5];
    check("12 KiB, not aligned", same && !count);
}

void test_strings(void) {
    moves();
    stores_and_loads();
    comparisons();
    long_copies();
}
