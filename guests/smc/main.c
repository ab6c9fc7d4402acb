/* Code that rewrites code, as kernels (and loaders, and JIT compilers in ring 3) do. */
#include "smc.h"

#include "check.h"
#include "kernel.h"

void write_return_value(void *code, u32 value) {
    volatile u8 *bytes = code;
    bytes[0] = 0xb8;
    poke32(bytes + RETURN_VALUE_AT, value);
    bytes[5] = 0xc3;
}

void kmain(u32 magic, u32 information) {
    (void)information;
    kernel_init("smc", magic);
    test_own_code();
    test_pages();
    test_mappings();
    test_user_code();
    verdict();
}
