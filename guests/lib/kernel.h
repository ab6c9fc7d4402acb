/* Brings the machine up for a guest that uses all of the library. */
#pragma once
#include "x86.h"

enum { MULTIBOOT_LOADED = 0x2badb002 };

/* What boot.S calls. */
void kmain(u32 magic, u32 information);

/* Console, features, GDT/TSS, IDT, own page tables, PIC; interrupts stay off. Prints the guest's name. */
void kernel_init(const char *name, u32 magic);
