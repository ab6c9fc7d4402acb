/* Each part stresses something else of a translator: straight-line table code (crc), tight bit loops (crc bitwise),
 * indirect calls (sort), call/return (fib), dependent loads (list), stores (sieve), rep-free string scanning (search),
 * and the multiplier and divider (muldiv). SCALE multiplies the rounds, not the working sets. */
#include "mix.h"

#ifndef SCALE
#error "compile with -DSCALE=n"
#endif

static uint64_t random_state;

static uint64_t next_random(void) { /* xorshift64: no library, same numbers everywhere */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint8_t bytes[16384];

static void fill_bytes(void) {
    random_state = 0x9e3779b97f4a7c15;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(next_random() >> 24);
}

static uint32_t crc_bitwise(const uint8_t *data, size_t size, uint32_t crc) {
    crc = ~crc;
    while (size--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static uint32_t crc_table[256];

static uint32_t crc_by_table(const uint8_t *data, size_t size, uint32_t crc) {
    crc = ~crc;
    while (size--)
        crc = crc >> 8 ^ crc_table[(uint8_t)crc ^ *data++];
    return ~crc;
}

static uint64_t run_crc_table(void) {
    fill_bytes();
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t entry = n;
        for (int bit = 0; bit < 8; bit++)
            entry = entry >> 1 ^ (entry & 1 ? 0xedb88320u : 0);
        crc_table[n] = entry;
    }
    uint32_t crc = 0;
    for (int round = 0; round < 20 * SCALE; round++)
        crc = crc_by_table(bytes, sizeof bytes, crc);
    return crc;
}

static uint64_t run_crc_bitwise(void) {
    fill_bytes();
    uint32_t crc = crc_bitwise((const uint8_t *)"123456789", 9, 0); /* 0xcbf43926, the published check value */
    for (int round = 0; round < 3 * SCALE; round++)
        crc = crc_bitwise(bytes, sizeof bytes, crc);
    return crc;
}

typedef int (*comparison)(uint64_t a, uint64_t b);

static int ascending(uint64_t a, uint64_t b) { return a < b ? -1 : a > b; }
static int descending(uint64_t a, uint64_t b) { return ascending(b, a); }
static int by_low_half(uint64_t a, uint64_t b) { return ascending(a & 0xffffffff, b & 0xffffffff); }

static const comparison volatile comparisons[3] = {ascending, descending, by_low_half}; /* volatile: never inlined */

static void shell_sort(uint64_t *items, size_t count, comparison compare) {
    for (size_t gap = count / 2; gap; gap = gap == 2 ? 1 : gap * 5 / 11)
        for (size_t i = gap; i < count; i++) {
            uint64_t item = items[i];
            size_t j = i;
            for (; j >= gap && compare(items[j - gap], item) > 0; j -= gap)
                items[j] = items[j - gap];
            items[j] = item;
        }
}

static uint64_t run_sort(void) {
    static uint64_t items[2048];
    uint64_t sum = 0;
    random_state = 88172645463325252;
    for (int round = 0; round < 3 * SCALE; round++) {
        for (size_t i = 0; i < 2048; i++)
            items[i] = next_random();
        shell_sort(items, 2048, comparisons[round % 3]);
        for (size_t i = 0; i < 2048; i++)
            sum = sum * 31 + items[i];
    }
    return sum;
}

__attribute__((noinline, noclone, optimize("no-optimize-sibling-calls"))) static uint64_t fib(unsigned n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t run_fib(void) {
    uint64_t sum = 0;
    for (int round = 0; round < 2 * SCALE; round++)
        sum += fib(20 + (unsigned)round % 3);
    return sum;
}

struct node {
    struct node *next;
    uint64_t value;
};

static uint64_t run_list(void) {
    static struct node nodes[4096];
    static uint16_t order[4096];
    random_state = 0x123456789abcdef;
    for (size_t i = 0; i < 4096; i++)
        order[i] = (uint16_t)i;
    for (size_t i = 4095; i; i--) { /* a shuffled ring: no two neighbours in memory are neighbours in the list */
        size_t j = next_random() % (i + 1);
        uint16_t other = order[j];
        order[j] = order[i];
        order[i] = other;
    }
    for (size_t i = 0; i < 4096; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % 4096]];
        nodes[order[i]].value = next_random();
    }
    uint64_t sum = 0;
    struct node *node = nodes;
    for (int step = 0; step < 200000 * SCALE; step++, node = node->next)
        sum = (sum << 1 | sum >> 63) ^ node->value;
    return sum;
}

static uint64_t run_sieve(void) {
    static uint8_t composite[32768];
    uint64_t sum = 0;
    for (int round = 0; round < SCALE; round++) {
        for (size_t i = 0; i < sizeof composite; i++)
            composite[i] = 0;
        for (size_t i = 2; i * i < sizeof composite; i++)
            if (!composite[i])
                for (size_t j = i * i; j < sizeof composite; j += i)
                    composite[j] = 1;
        uint64_t primes = 0;
        for (size_t i = 2; i < sizeof composite; i++)
            primes += !composite[i];
        sum += primes + (uint64_t)round; /* 3512 primes below 32768 */
    }
    return sum;
}

static size_t count_matches(const uint8_t *text, size_t size, const uint8_t *word, size_t length) {
    size_t matches = 0;
    for (size_t i = 0; i + length <= size; i++) {
        size_t j = 0;
        while (j < length && text[i + j] == word[j])
            j++;
        matches += j == length;
    }
    return matches;
}

static uint64_t run_search(void) {
    fill_bytes();
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = 'a' + (bytes[i] & 3); /* four letters: many partial matches */
    uint64_t sum = 0;
    for (int round = 0; round < 5 * SCALE; round++) {
        const uint8_t *word = &bytes[(unsigned)round * 37 % 16000];
        sum = sum * 7 + count_matches(bytes, sizeof bytes, word, 3 + (unsigned)round % 4);
    }
    return sum;
}

static uint64_t run_muldiv(void) {
    random_state = 0xfeedface;
    uint64_t sum = 1;
    for (int step = 0; step < 20000 * SCALE; step++) {
        uint64_t a = next_random(), b = next_random() >> (a & 63) | 1;
        unsigned __int128 product = (unsigned __int128)a * b;
        int64_t quotient = (int64_t)a / (int64_t)(b >> 1 | 1); /* the divisor is never -1 */
        sum += (uint64_t)(product >> 64) ^ (uint64_t)product;
        sum ^= a / b + a % b + (uint64_t)quotient + (uint32_t)a / ((uint32_t)b | 1);
        sum *= 0x5851f42d4c957f2d;
    }
    return sum;
}

const struct mix_part mix_parts[MIX_PARTS] = {
    {"crc32 by table", run_crc_table}, {"crc32 bit by bit", run_crc_bitwise}, {"shell sort", run_sort},
    {"fib", run_fib},                  {"linked list", run_list},             {"sieve", run_sieve},
    {"string search", run_search},     {"64-bit mul and div", run_muldiv},
};
