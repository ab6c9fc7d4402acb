/* The smallest guest: says hello and halts. Linked where it is loaded; runs on the boot page tables, without an IDT.
 * Its verdict is that it gets to `cli; hlt` (in boot.S, after kmain returns) having said so. */
#include "console.h"
#include "kernel.h"

void kmain(u32 magic, u32 information) {
    (void)magic;
    (void)information;
    console_init();
    print("Hello from long mode.\n");
    console_flush();
}
