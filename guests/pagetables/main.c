/* Edits its page tables in every way that has consequences, and looks whether they have come. Where the manual allows
 * an old translation to live on (a change without invlpg), nothing is checked until the flush. */
#include "check.h"
#include "kernel.h"
#include "pagetables.h"

void kmain(u32 magic, u32 information) {
    (void)information;
    kernel_init("pagetables", magic);
    test_mapping();
    test_accessed_dirty();
    test_sharing();
    test_large_pages();
    test_address_spaces();
    test_pcid();
    test_rights();
    test_entry_writes();
    test_reuse();
    verdict();
}
