#include "traps.h"

#include "check.h"
#include "console.h"
#include "segments.h"

__attribute__((aligned(4096))) struct gate idt[256];

extern const u8 isr_stubs[256][16];
extern const u8 catch_resume[];
int catch_call(u64 *saved_rsp, void (*fn)(u64), u64 arg);
void trap_dispatch(struct frame *frame);

static trap_handler handlers[256];
static struct trap *catching; /* NULL: nothing is expected to trap */
static u64 catch_rsp;

void set_gate(u8 vector, const void *entry, u8 type, u8 ist) {
    u64 offset = (u64)entry;
    idt[vector] = (struct gate){
        .offset_low = (u16)offset,
        .selector = KERNEL_CS,
        .ist = ist,
        .type = type,
        .offset_mid = (u16)(offset >> 16),
        .offset_high = (u32)(offset >> 32),
    };
}

void reset_gate(u8 vector) {
    u8 type = GATE_INTERRUPT;
    if (vector == VEC_BP || vector == VEC_USER_EXIT)
        type |= GATE_DPL3;
    set_gate(vector, isr_stubs[vector], type, vector == VEC_DF ? IST_DOUBLE_FAULT : IST_NONE);
}

void traps_init(void) {
    for (unsigned vector = 0; vector < 256; vector++)
        reset_gate((u8)vector);
    struct table_register idtr = {sizeof idt - 1, (u64)idt};
    __asm__ volatile("lidt %0" : : "m"(idtr));
}

void set_trap_handler(u8 vector, trap_handler handler) { handlers[vector] = handler; }

static _Noreturn void unexpected_trap(const struct frame *f, u64 cr2) {
    check_failed("unexpected trap");
    print("vector %lu error %lx rip %lx cs %lx rflags %lx rsp %lx ss %lx cr2 %lx\n", f->vector, f->error, f->rip, f->cs,
          f->rflags, f->rsp, f->ss, cr2);
    print("  rax %lx rbx %lx rcx %lx rdx %lx rsi %lx rdi %lx rbp %lx r8 %lx\n", f->rax, f->rbx, f->rcx, f->rdx, f->rsi,
          f->rdi, f->rbp, f->r8);
    verdict();
}

void trap_dispatch(struct frame *frame) {
    u64 cr2 = read_cr2(); /* before anything here can fault */
    if (frame->vector < 256 && handlers[frame->vector] && handlers[frame->vector](frame))
        return;
    if (!catching)
        unexpected_trap(frame, cr2);
    *catching = (struct trap){.raised = true, .frame = *frame, .cr2 = cr2, .stack = (u64)(frame + 1)};
    catching = NULL;
    /* Return into catch_call instead of to the interrupted code. Its popfq restores the flags, so IF stays off until
     * then. */
    frame->rip = (u64)catch_resume;
    frame->cs = KERNEL_CS;
    frame->ss = KERNEL_SS;
    frame->rsp = catch_rsp;
    frame->rflags = RFLAGS_FIXED;
}

bool catch_trap(struct trap *trap, void (*fn)(u64), u64 arg) {
    *trap = (struct trap){.raised = false};
    catching = trap;
    int caught = catch_call(&catch_rsp, fn, arg);
    catching = NULL;
    return caught;
}

void check_trap(const char *name, const struct trap *got, u64 vector, u64 error, const void *rip, u64 want_cr2) {
    const struct frame *f = &got->frame;
    if (!got->raised) {
        check_failed(name);
        print("got no trap want vector %lu\n", vector);
    } else if (f->vector != vector || f->error != error) {
        check_failed(name);
        print("got vector %lu error %lx rip %lx cr2 %lx want vector %lu error %lx\n", f->vector, f->error, f->rip,
              got->cr2, vector, error);
    } else if (rip && f->rip != (u64)rip) {
        check_failed(name);
        print("got rip %lx want %lx\n", f->rip, (u64)rip);
    } else if (vector == VEC_PF && got->cr2 != want_cr2) {
        check_failed(name);
        print("got cr2 %lx want %lx\n", got->cr2, want_cr2);
    } else {
        check(name, true);
    }
}

void expect_trap(const char *name, void (*fn)(u64), u64 arg, u64 vector, u64 error, const void *rip) {
    struct trap trap;
    catch_trap(&trap, fn, arg);
    check_trap(name, &trap, vector, error, rip, trap.cr2);
}

void expect_page_fault(const char *name, void (*fn)(u64), u64 arg, u64 error, const void *rip, u64 cr2) {
    struct trap trap;
    catch_trap(&trap, fn, arg);
    check_trap(name, &trap, VEC_PF, error, rip, cr2);
}

void expect_no_trap(const char *name, void (*fn)(u64), u64 arg) {
    struct trap trap;
    if (!catch_trap(&trap, fn, arg)) {
        check(name, true);
        return;
    }
    check_failed(name);
    print("got vector %lu error %lx rip %lx cr2 %lx want no trap\n", trap.frame.vector, trap.frame.error,
          trap.frame.rip, trap.cr2);
}
