/* Runs the mix on the build host and prints the checksums as the header that the guest compares with. The parts that
 * have a published answer are held against it here, so that host and guest cannot agree on something wrong. */
#include <inttypes.h>
#include <stdio.h>

#include "mix.h"

int main(void) {
    printf("/* Computed at build time by cpubound/host.c, SCALE %d */\n", SCALE);
    printf("static const uint64_t expected[MIX_PARTS] = {\n");
    for (int i = 0; i < MIX_PARTS; i++)
        printf("    0x%016" PRIx64 ", /* %s */\n", mix_parts[i].run(), mix_parts[i].name);
    printf("};\n");

    uint64_t sieve = mix_parts[5].run(), fib = mix_parts[3].run(), want_sieve = 0, want_fib = 0;
    static const uint64_t fib_20_to_22[3] = {6765, 10946, 17711};
    for (uint64_t round = 0; round < SCALE; round++)
        want_sieve += 3512 + round;
    for (int round = 0; round < 2 * SCALE; round++)
        want_fib += fib_20_to_22[round % 3];
    if (sieve != want_sieve || fib != want_fib) {
        fprintf(stderr, "cpubound: the host's own results are wrong\n");
        return 1;
    }
    return 0;
}
