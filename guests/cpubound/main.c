/* Runs the mix once and holds its checksums against those of the build host. No interrupts, no paging of its own:
 * what takes the time is the mix. */
#include "check.h"
#include "console.h"
#include "kernel.h"
#include "mix.h"

#include "expected.h"

void kmain(u32 magic, u32 information) {
    (void)magic;
    (void)information;
    console_init();
    print("cpubound: scale %d\n", SCALE);
    for (int i = 0; i < MIX_PARTS; i++) {
        u64 got = mix_parts[i].run();
        print("%s %lx\n", mix_parts[i].name, got);
        check_eq(mix_parts[i].name, got, expected[i]);
    }
    verdict();
}
