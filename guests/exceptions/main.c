/* Provokes every exception, from ring 0 and ring 3, and looks at vector, error code, saved RIP and CR2. */
#include "exceptions.h"

#include "check.h"
#include "features.h"
#include "kernel.h"

u64 idt_error(u8 vector) {
    /* QEMU's TCG (7.2) takes the offset of the 16-byte gate, which comes out as index << 4. */
    return (u64)vector << (cpu.tcg ? 4 : 3) | 2;
}

void kmain(u32 magic, u32 information) {
    (void)information;
    kernel_init("exceptions", magic);
    test_simple_exceptions();
    test_segment_exceptions();
    test_protection();
    test_page_faults();
    test_smep_smap();
    test_single_step();
    test_debug_registers();
    test_double_faults();
    verdict();
}
