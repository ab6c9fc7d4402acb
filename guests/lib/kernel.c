#include "kernel.h"

#include "check.h"
#include "console.h"
#include "features.h"
#include "paging.h"
#include "pic.h"
#include "segments.h"
#include "traps.h"

void kernel_init(const char *name, u32 magic) {
    console_init();
    features_init();
    print("%s: CPU %s, %u physical address bits\n", name, cpu.vendor, cpu.physical_bits);
    segments_init();
    traps_init();
    pic_init();
    check_eq("loaded by a Multiboot loader", magic, MULTIBOOT_LOADED);
    paging_init();
}
