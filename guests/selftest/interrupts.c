/* Timer interrupts through the 8259, and every way of letting one in. */
#include "selftest.h"

#include "check.h"
#include "pic.h"
#include "pit.h"
#include "segments.h"
#include "traps.h"

enum { TICK_VECTOR = VEC_IRQ0 + PIT_IRQ, TEST_VECTOR = 0x90, PATIENCE = 1000000 };

__attribute__((aligned(4096))) struct tick_page tick_page;
volatile u64 tick_rip, tick_flags;
static volatile u64 flags_in_handler;

static bool tick(struct frame *frame) {
    ticks++;
    tick_rip = frame->rip;
    tick_flags = frame->rflags;
    flags_in_handler = read_flags();
    pic_eoi(PIT_IRQ);
    return true;
}

void timer_handler_install(void) { set_trap_handler(TICK_VECTOR, tick); }

void make_tick_pending(void) {
    if (pic_requests() & 1 << PIT_IRQ)
        return; /* the one that is pending will do: a PIT that takes its request back makes a spurious IRQ 7 */
    pit_one_shot(200);
    for (int i = 0; !(pic_requests() & 1 << PIT_IRQ); i++)
        if (i == PATIENCE)
            give_up("the PIT raises no IRQ 0");
}

static void counting(void) {
    section("timer interrupts");
    pic_unmask(PIT_IRQ);
    pit_periodic(PIT_HZ / 1000);
    ticks = 0;
    while (ticks < 10)
        sti_hlt_cli();
    check("hlt wakes for each of 10 ticks", ticks >= 10);
    check_eq("the interrupted code had IF set", tick_flags & RFLAGS_IF, RFLAGS_IF);
    check_eq("its handler has it clear", flags_in_handler & RFLAGS_IF, 0);
    u64 before = rdtsc();
    ticks = 0;
    while (ticks < 3)
        sti_hlt_cli();
    check("the TSC goes on while halted", rdtsc() > before);
    u16 first = pit_read();
    bool moved = false;
    for (int i = 0; i < PATIENCE && !moved; i++)
        moved = pit_read() != first;
    check("the PIT's count moves", moved);
    check("and stays within its period", pit_read() <= PIT_HZ / 1000);
    pit_stop();
    make_tick_pending(); /* takes what may still be under way, too */
    sti_hlt_cli();
    u64 stopped = ticks;
    sti();
    for (int i = 0; i < 1000; i++)
        barrier();
    cli();
    check_eq("stopped, it stays so", ticks, stopped);
}

static void expect_tick(const char *name, void (*fn)(void), const u8 *rip) {
    make_tick_pending();
    u64 before = ticks;
    tick_rip = 0;
    fn();
    check_eq(name, tick_rip, (u64)rip);
    if (ticks != before + (rip ? 1 : 0))
        check_eq("  the number of interrupts taken", ticks - before, rip ? 1 : 0);
}

static void letting_in(void) {
    section("letting a pending interrupt in");
    void sti_then_nop(void), sti_then_cli(void), popf_enables(void), iret_enables(void), halt_enables(void);
    extern const u8 sti_shadow_ends[], popf_enabled[], iret_enabled[], halt_ended[];
    expect_tick("sti: after one more instruction", sti_then_nop, sti_shadow_ends);
    expect_tick("sti, cli: not at all", sti_then_cli, NULL);
    expect_tick("  and it is still pending: popf, at once", popf_enables, popf_enabled);
    expect_tick("iret: at its target", iret_enables, iret_enabled);
    expect_tick("sti, hlt: behind the hlt", halt_enables, halt_ended);

    make_tick_pending();
    u64 before = ticks;
    for (int i = 0; i < 1000; i++)
        barrier();
    check_eq("IF clear: stays pending", ticks, before);
    write_flags(read_flags() | RFLAGS_IF);
    cli();
    check_eq("taken when IF is set", ticks, before + 1);
}

static void masks(void) {
    section("8259");
    pic_mask(PIT_IRQ);
    make_tick_pending();
    u64 before = ticks;
    sti();
    for (int i = 0; i < 100; i++)
        barrier();
    cli();
    check_eq("masked: stays pending", ticks, before);
    check_eq("and is in the request register", pic_requests() & 1, 1);
    pic_unmask(PIT_IRQ);
    check_eq("unmasked with IF clear: not yet", ticks, before);
    sti_nop_cli();
    check_eq("and then taken once", ticks, before + 1);
    check_eq("its request is gone", pic_requests() & 1, 0);
    check_eq("nothing in service after the EOI", pic_in_service(), 0);
    __asm__ volatile("int %0" : : "i"(TICK_VECTOR) : "memory");
    check_eq("int 0x20 runs the same handler", ticks, before + 2);
}

static volatile u16 in_service;
static bool tick_without_eoi(struct frame *frame) {
    (void)frame;
    ticks++;
    in_service = pic_in_service();
    return true;
}

static void end_of_interrupt(void) {
    set_trap_handler(TICK_VECTOR, tick_without_eoi);
    make_tick_pending();
    u64 before = ticks;
    sti_hlt_cli();
    check_eq("in service during its handler", in_service, 1);
    make_tick_pending();
    sti();
    for (int i = 0; i < 100; i++)
        barrier();
    cli();
    check_eq("without EOI the next one waits", ticks, before + 1);
    set_trap_handler(TICK_VECTOR, tick);
    pic_eoi(PIT_IRQ);
    sti_nop_cli();
    check_eq("after the EOI it comes", ticks, before + 2);
}

static bool store_flags(struct frame *frame) {
    (void)frame;
    flags_in_handler = read_flags();
    return true;
}

static void gate_types(void) {
    set_trap_handler(TEST_VECTOR, store_flags);
    sti();
    __asm__ volatile("int %0" : : "i"(TEST_VECTOR) : "memory");
    check_eq("an interrupt gate clears IF", flags_in_handler & RFLAGS_IF, 0);
    check_eq("and iret sets it again", read_flags() & RFLAGS_IF, RFLAGS_IF);
    idt[TEST_VECTOR].type = GATE_TRAP;
    __asm__ volatile("int %0" : : "i"(TEST_VECTOR) : "memory");
    check_eq("a trap gate leaves IF", flags_in_handler & RFLAGS_IF, RFLAGS_IF);
    cli();
    reset_gate(TEST_VECTOR);
    set_trap_handler(TEST_VECTOR, NULL);
}

static void registers_survive(void) {
    u64 spin_in_ring_0(volatile u64 * counter, u64 target);
    pit_periodic(PIT_HZ / 1000);
    check_eq("all registers and DF survive 5 interrupts", spin_in_ring_0(&ticks, ticks + 5), 0);
    pit_stop();
}

void test_interrupts(void) {
    timer_handler_install();
    counting();
    letting_in();
    masks();
    end_of_interrupt();
    gate_types();
    registers_survive();
}
