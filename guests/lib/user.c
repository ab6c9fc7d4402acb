#include "user.h"

#include "check.h"
#include "console.h"
#include "paging.h"
#include "segments.h"

_Noreturn void enter_user(u64 rip, u64 rsp, u64 arg, u64 rflags);

static u64 user_rip, user_rflags;

static void enter(u64 arg) { enter_user(user_rip, USER_STACK_TOP, arg, user_rflags); }

void run_user_flags(struct trap *trap, const void *rip, u64 arg, u64 rflags) {
    user_rip = (u64)rip;
    user_rflags = rflags | RFLAGS_FIXED;
    catch_trap(trap, enter, arg);
}

void run_user(struct trap *trap, const void *rip, u64 arg) { run_user_flags(trap, rip, arg, 0); }

/* A trap out of ring 3 must also show ring 3 in the saved CS and SS, and arrive on the stack that the TSS names. */
static void check_user_trap(const char *name, const struct trap *trap, u64 vector, u64 error, const void *rip, u64 cr2) {
    if (trap->raised && (trap->frame.cs != USER_CS || trap->frame.ss != USER_SS)) {
        check_failed(name);
        print("got cs %lx ss %lx vector %lu want cs %x ss %x\n", trap->frame.cs, trap->frame.ss, trap->frame.vector,
              USER_CS, USER_SS);
    } else if (trap->raised && trap->stack != tss.rsp[0]) {
        check_failed(name);
        print("got frame below %lx want %lx\n", trap->stack, tss.rsp[0]);
    } else {
        check_trap(name, trap, vector, error, rip, cr2);
    }
}

void expect_user_trap(const char *name, const void *fn, u64 arg, u64 vector, u64 error, const void *rip) {
    struct trap trap;
    run_user(&trap, fn, arg);
    check_user_trap(name, &trap, vector, error, rip, trap.cr2);
}

void expect_user_page_fault(const char *name, const void *fn, u64 arg, u64 error, const void *rip, u64 cr2) {
    struct trap trap;
    run_user(&trap, fn, arg);
    check_user_trap(name, &trap, VEC_PF, error, rip, cr2);
}
