/* What CPUID says that this CPU can do. */
#pragma once
#include "x86.h"

struct cpu_features {
    bool pcid, invpcid, global_pages, smep, smap, nx, huge_1g, syscall, sysenter, cmpxchg16b, fsgsbase;
    bool intel; /* the vendor decides whether SYSENTER works in long mode */
    bool tcg;   /* QEMU's software CPU: a few known differences from the manual, named where they matter */
    unsigned physical_bits;
    char vendor[13];
};
extern struct cpu_features cpu;

void features_init(void);
