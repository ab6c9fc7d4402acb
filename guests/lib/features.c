#include "features.h"

struct cpu_features cpu;

static bool bit(u32 word, unsigned n) { return word >> n & 1; }

static bool is_tcg(void) {
    struct cpuid_result r = cpuid(0x40000000, 0);
    return r.ebx == 0x54474354 && r.ecx == 0x43544743 && r.edx == 0x47435447; /* "TCGTCGTCGTCG" */
}

void features_init(void) {
    struct cpuid_result r = cpuid(0, 0);
    u32 max_leaf = r.eax;
    *(u32 *)&cpu.vendor[0] = r.ebx;
    *(u32 *)&cpu.vendor[4] = r.edx;
    *(u32 *)&cpu.vendor[8] = r.ecx;
    cpu.intel = r.ebx == 0x756e6547 /* Genu */;

    r = cpuid(1, 0);
    cpu.pcid = bit(r.ecx, 17);
    cpu.cmpxchg16b = bit(r.ecx, 13);
    cpu.global_pages = bit(r.edx, 13);
    cpu.sysenter = bit(r.edx, 11);
    cpu.tcg = bit(r.ecx, 31) && is_tcg();
    if (max_leaf >= 7) {
        r = cpuid(7, 0);
        cpu.fsgsbase = bit(r.ebx, 0);
        cpu.smep = bit(r.ebx, 7);
        cpu.invpcid = bit(r.ebx, 10);
        cpu.smap = bit(r.ebx, 20);
    }
    u32 max_extended = cpuid(0x80000000, 0).eax;
    r = cpuid(0x80000001, 0);
    cpu.syscall = bit(r.edx, 11);
    cpu.nx = bit(r.edx, 20);
    cpu.huge_1g = bit(r.edx, 26);
    cpu.physical_bits = max_extended >= 0x80000008 ? cpuid(0x80000008, 0).eax & 0xff : 36;
}
