/* IDT, the frame that every entry builds, and catching: running code that is expected to trap. */
#pragma once
#include "x86.h"

struct frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    u64 vector, error; /* error is 0 where the CPU pushes none */
    u64 rip, cs, rflags, rsp, ss;
};

enum { VEC_IRQ0 = 0x20, VEC_USER_EXIT = 0x80, VEC_SYSCALL = 0x100 /* not a vector: made by syscall entry code */ };

/* What a caught trap looked like. */
struct trap {
    bool raised;
    struct frame frame;
    u64 cr2;
    u64 stack; /* where the frame was pushed: tells RSP0 from IST from the interrupted stack */
};

struct __attribute__((packed)) gate {
    u16 offset_low, selector;
    u8 ist, type;
    u16 offset_mid;
    u32 offset_high, reserved;
};
enum { GATE_INTERRUPT = 0x8e, GATE_TRAP = 0x8f, GATE_DPL3 = 0x60, GATE_PRESENT = 0x80 };

extern struct gate idt[256];

void traps_init(void);
void set_gate(u8 vector, const void *entry, u8 type, u8 ist);
/* Puts back the library's own entry for a vector. */
void reset_gate(u8 vector);

/* Called first for its vector; true means handled: go back to where the frame says. NULL removes it. */
typedef bool (*trap_handler)(struct frame *frame);
void set_trap_handler(u8 vector, trap_handler handler);

/* Runs fn(arg). If a trap comes that no handler takes, stores it and returns true; the stack, callee-saved registers
 * and flags are as before the call. Returns false when fn returned. Does not nest. */
bool catch_trap(struct trap *trap, void (*fn)(u64), u64 arg);

/* One check each: fn(arg) must raise exactly this. `rip` is the saved RIP wanted (0: do not look). */
void expect_trap(const char *name, void (*fn)(u64), u64 arg, u64 vector, u64 error, const void *rip);
void expect_page_fault(const char *name, void (*fn)(u64), u64 arg, u64 error, const void *rip, u64 cr2);
void expect_no_trap(const char *name, void (*fn)(u64), u64 arg);
/* The comparison alone, for traps that were caught otherwise. `want_cr2` counts for VEC_PF only. */
void check_trap(const char *name, const struct trap *got, u64 vector, u64 error, const void *rip, u64 want_cr2);
