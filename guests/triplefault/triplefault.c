/* Ends in a triple fault on purpose: an IDT of limit 0 makes #UD a #GP, that a #DF, and that a shutdown. */
#include "console.h"
#include "kernel.h"

void kmain(u32 magic, u32 information) {
    (void)magic;
    (void)information;
    console_init();
    print("triplefault: the next instruction is the last\n");
    console_flush();
    struct table_register nothing = {0, 0};
    __asm__ volatile("lidt %0; ud2" : : "m"(nothing));
    print("FAIL still running after a triple fault\n");
}
