/* The CPU as C sees it: fixed-width types, register bits (names as in the Intel SDM) and one inline per instruction. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

enum {
    CR0_MP = 1u << 1,
    CR0_EM = 1u << 2,
    CR0_TS = 1u << 3,
    CR0_NE = 1u << 5,
    CR0_WP = 1u << 16,
    CR0_AM = 1u << 18,
};
#define CR3_NO_FLUSH (1ull << 63)
enum {
    CR4_TSD = 1u << 2,
    CR4_DE = 1u << 3,
    CR4_PGE = 1u << 7,
    CR4_OSFXSR = 1u << 9,
    CR4_OSXMMEXCPT = 1u << 10,
    CR4_FSGSBASE = 1u << 16,
    CR4_PCIDE = 1u << 17,
    CR4_SMEP = 1u << 20,
    CR4_SMAP = 1u << 21,
};
enum {
    RFLAGS_CF = 1u << 0,
    RFLAGS_FIXED = 1u << 1,
    RFLAGS_ZF = 1u << 6,
    RFLAGS_SF = 1u << 7,
    RFLAGS_TF = 1u << 8,
    RFLAGS_IF = 1u << 9,
    RFLAGS_DF = 1u << 10,
    RFLAGS_OF = 1u << 11,
    RFLAGS_IOPL = 3u << 12,
    RFLAGS_NT = 1u << 14,
    RFLAGS_RF = 1u << 16,
    RFLAGS_AC = 1u << 18,
    RFLAGS_ID = 1u << 21,
};
enum {
    MSR_APIC_BASE = 0x1b,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
};
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
enum { EFER_SCE = 1u << 0, EFER_LMA = 1u << 10, EFER_NXE = 1u << 11 };

enum vector {
    VEC_DE = 0,
    VEC_DB = 1,
    VEC_BP = 3,
    VEC_UD = 6,
    VEC_NM = 7,
    VEC_DF = 8,
    VEC_TS = 10,
    VEC_NP = 11,
    VEC_SS = 12,
    VEC_GP = 13,
    VEC_PF = 14,
    VEC_MF = 16,
    VEC_AC = 17,
    VEC_XM = 19,
};
/* Error code of a page fault (SDM vol. 3, 4.7) */
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };

static inline void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static inline u8 in8(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

#define DEFINE_CR(n)                                                                        \
    static inline u64 read_cr##n(void) {                                                    \
        u64 value;                                                                          \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(value) : : "memory");                  \
        return value;                                                                       \
    }                                                                                       \
    static inline void write_cr##n(u64 value) { __asm__ volatile("mov %0, %%cr" #n : : "r"(value) : "memory"); }
DEFINE_CR(0)
DEFINE_CR(2)
DEFINE_CR(3)
DEFINE_CR(4)
#undef DEFINE_CR

static inline u64 rdmsr(u32 msr) {
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (u64)high << 32 | low;
}
static inline void wrmsr(u32 msr, u64 value) {
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

struct cpuid_result {
    u32 eax, ebx, ecx, edx;
};
static inline struct cpuid_result cpuid(u32 leaf, u32 subleaf) {
    struct cpuid_result r;
    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}
static inline u64 rdtsc(void) {
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (u64)high << 32 | low;
}

static inline u64 read_flags(void) {
    u64 flags;
    __asm__ volatile("pushfq; popq %0" : "=r"(flags) : : "memory");
    return flags;
}
static inline void write_flags(u64 flags) { __asm__ volatile("pushq %0; popfq" : : "r"(flags) : "memory", "cc"); }
static inline void cli(void) { __asm__ volatile("cli" : : : "memory"); }
static inline void sti(void) { __asm__ volatile("sti" : : : "memory"); }
static inline void stac(void) { __asm__ volatile("stac" : : : "memory"); }
static inline void clac(void) { __asm__ volatile("clac" : : : "memory"); }
/* sti's shadow covers hlt: an interrupt cannot come between the two and be missed */
static inline void sti_hlt_cli(void) { __asm__ volatile("sti; hlt; cli" : : : "memory"); }
/* Lets in what is pending: sti's shadow covers one nop, the interrupt comes before the other */
static inline void sti_nop_cli(void) { __asm__ volatile("sti; nop; nop; cli" : : : "memory"); }
static inline void invlpg(const volatile void *va) {
    __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}
static inline void barrier(void) { __asm__ volatile("" : : : "memory"); }

struct __attribute__((packed)) table_register {
    u16 limit;
    u64 base;
};
