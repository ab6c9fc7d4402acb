/* Ring 3: entry, exit, preemption, compatibility mode. */
#include "selftest.h"

#include "check.h"
#include "paging.h"
#include "pit.h"
#include "segments.h"
#include "user.h"

static void enter_and_leave(void) {
    section("ring 3");
    extern const u8 user_ring[], user_stack[];
    struct trap trap;
    run_user(&trap, user_ring, 0x123456789abcdef0);
    check_trap("int 0x80 ends it", &trap, VEC_USER_EXIT, 0, NULL, 0);
    check_eq("its CS", trap.frame.rax, USER_CS);
    check_eq("its argument", trap.frame.rbx, 0x123456789abcdef0);
    check_eq("its saved rsp", trap.frame.rsp, USER_STACK_TOP);
    check_eq("the frame is on RSP0's stack", trap.stack, (u64)trap_stack_top);
    run_user(&trap, user_stack, 0);
    check_eq("push, call, ret, pop", trap.frame.rax, 6);
    tss.rsp[0] -= 1024;
    run_user(&trap, user_ring, 0);
    check_eq("RSP0 changed in memory counts at once", trap.stack, (u64)trap_stack_top - 1024);
    tss.rsp[0] += 1024;
    tss.rsp[0] -= 8;
    run_user(&trap, user_ring, 0);
    check_eq("a stack that is not aligned is aligned", trap.stack, (u64)trap_stack_top - 16);
    tss.rsp[0] += 8;
}

static void preemption(void) {
    section("ring 3 and the timer");
    extern const u8 spin_in_ring_3[];
    /* Ring 3 sees the page with the tick count through a read-only window of its own, and its target in the next word. */
    struct trap trap;
    map_page(kernel_root, TEST_VA, virt_to_phys((void *)&tick_page), PTE_P | PTE_U);
    u64 before = ticks;
    tick_page.target = before + 5;
    pit_periodic(PIT_HZ / 1000);
    run_user_flags(&trap, spin_in_ring_3, TEST_VA, RFLAGS_IF);
    pit_stop();
    check_trap("it is preempted and ends", &trap, VEC_USER_EXIT, 0, NULL, 0);
    check("5 ticks came while it ran", ticks >= before + 5);
    check("the last one interrupted ring 3", tick_rip >= (u64)spin_in_ring_3 && tick_rip < (u64)spin_in_ring_3 + 256);
    check_eq("all its registers and DF survive", trap.frame.rax, 0);
}

void enter_compatibility(u64 rip, u64 rsp);
enum { LOW_STACK = 0x800000 }; /* esp has 32 bits */
static void compatibility(u64 rip) { enter_compatibility(rip, LOW_STACK + PAGE_SIZE); }

static void compatibility_mode(void) {
    section("compatibility mode");
    extern const u8 user_compatibility[];
    struct trap trap;
    map_page(kernel_root, LOW_STACK, frame_alloc(), PTE_P | PTE_W | PTE_U);
    catch_trap(&trap, compatibility, (u64)user_compatibility);
    check_trap("32-bit code runs and ends with int 0x80", &trap, VEC_USER_EXIT, 0, NULL, 0);
    check_eq("its CS", trap.frame.cs, USER_CS32);
    check_eq("its own view of it", trap.frame.rcx, USER_CS32);
    check_eq("its arithmetic is 32 bits wide", trap.frame.rax, 6);
    check_eq("its pushes are 4 bytes", trap.frame.rbx, 4);
}

void test_user_mode(void) {
    enter_and_leave();
    preemption();
    compatibility_mode();
}
