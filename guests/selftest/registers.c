/* What the CPU says about itself, to ring 0 and to ring 3. A monitor that runs ring 0 with fewer rights must not show. */
#include "selftest.h"

#include "check.h"
#include "console.h"
#include "features.h"
#include "paging.h"
#include "segments.h"
#include "traps.h"
#include "user.h"

struct __attribute__((packed)) machine_view {
    u64 flags, cs, ss, ldt, task, status_word;
    struct table_register gdtr;
    u8 pad1[6];
    struct table_register idtr;
    u8 pad2[6];
    u64 access_rights, limit, readable, writable;
};
#define ZF_SET (1ull << 63)
/* What lar gives, without the bits that the manual leaves undefined (16 to 19) and A, which the CPU may set */
#define RIGHTS(view) ((view).access_rights & ~0xf0100ull)

void look_in_ring_0(struct machine_view *view, u64 selector);

static void flags(void) {
    section("flags in ring 0");
    check_eq("cli", read_flags() & RFLAGS_IF, 0);
    sti();
    u64 seen = read_flags();
    cli();
    check_eq("sti", seen & RFLAGS_IF, RFLAGS_IF);
    write_flags(RFLAGS_FIXED | RFLAGS_IOPL | RFLAGS_DF | RFLAGS_CF);
    seen = read_flags();
    write_flags(RFLAGS_FIXED);
    check_eq("popf sets IOPL, DF and CF", seen, RFLAGS_FIXED | RFLAGS_IOPL | RFLAGS_DF | RFLAGS_CF);
    check_eq("and clears them", read_flags() & ~(u64)(RFLAGS_ZF | 4), RFLAGS_FIXED);
    write_flags(RFLAGS_FIXED | RFLAGS_ID | RFLAGS_NT);
    seen = read_flags();
    write_flags(RFLAGS_FIXED);
    check_eq("ID and NT can be set", seen & (RFLAGS_ID | RFLAGS_NT), RFLAGS_ID | RFLAGS_NT);
    write_flags(~(u64)(RFLAGS_TF | RFLAGS_IF | RFLAGS_NT));
    seen = read_flags();
    write_flags(RFLAGS_FIXED);
    check_eq("reserved flags, VM and RF stay clear", seen & (0xffffffffffc00000 | 1 << 15 | 3 << 16 | 0x28), 0);
    u16 word;
    __asm__ volatile("pushfw; orw $0x200, (%%rsp); popfw; pushfw; popw %0; cli" : "=r"(word) : : "memory", "cc");
    check_eq("16-bit popf sets IF", word & RFLAGS_IF, RFLAGS_IF);
}

static void check_tables(const struct machine_view *view) {
    check_eq("sgdt: base", view->gdtr.base, (u64)gdt);
    check_eq("sgdt: limit", view->gdtr.limit, GDT_LIMIT);
    check_eq("sidt: base", view->idtr.base, (u64)idt);
    check_eq("sidt: limit", view->idtr.limit, sizeof idt - 1);
    check_eq("sldt", view->ldt & 0xffff, 0);
    check_eq("str", view->task & 0xffff, TSS_SELECTOR);
    check_eq("smsw is the low half of CR0", view->status_word & 0xffff, read_cr0() & 0xffff);
}

static void from_ring_0(void) {
    section("system state seen from ring 0");
    struct machine_view view;
    look_in_ring_0(&view, KERNEL_CS);
    check_eq("cs", view.cs, KERNEL_CS);
    check_eq("ss", view.ss, KERNEL_SS);
    check_tables(&view);
    check_eq("lar of code: present, DPL 0, 64-bit", RIGHTS(view), ZF_SET | 0x00a09a00);
    check_eq("lsl of code", view.limit, ZF_SET | 0xffffffff);
    check_eq("verr of code that is readable", view.readable, 1);
    check_eq("verw of code", view.writable, 0);
    look_in_ring_0(&view, USER_SS);
    check_eq("lar of the user's data", RIGHTS(view), ZF_SET | 0x00c0f200);
    check_eq("verw of the user's data", view.writable, 1);
    look_in_ring_0(&view, TSS_SELECTOR);
    check_eq("lar of the TSS: busy", view.access_rights & 0xff00, 0x8b00);
    check_eq("lsl of the TSS", view.limit, ZF_SET | (sizeof tss - 1));
    check_eq("verr of the TSS", view.readable, 0);
    look_in_ring_0(&view, 0);
    check_eq("lar of null clears ZF and leaves its register", view.access_rights, ~0ull & 0xffffffff);
    check_eq("verr of null", view.readable, 0);
    look_in_ring_0(&view, 0x1000);
    check_eq("verr beyond the GDT", view.readable, 0);
}

static void from_ring_3(void) {
    section("system state seen from ring 3");
    extern const u8 look_in_ring_3[];
    struct machine_view *view = (struct machine_view *)(USER_STACK_TOP - PAGE_SIZE); /* the far end of the user stack */
    struct trap trap;
    view->flags = KERNEL_CS;
    run_user_flags(&trap, look_in_ring_3, (u64)view, RFLAGS_IF);
    check_trap("nothing faults", &trap, VEC_USER_EXIT, 0, NULL, 0);
    check_eq("cs", view->cs, USER_CS);
    check_eq("ss", view->ss, USER_SS);
    check_eq("pushf shows IF", view->flags & RFLAGS_IF, RFLAGS_IF);
    check_eq("the saved flags, too", trap.frame.rflags & RFLAGS_IF, RFLAGS_IF);
    check_tables(view);
    check_eq("lar of the kernel's code: not allowed", view->access_rights & ZF_SET, 0);
    check_eq("verr of the kernel's code: not allowed", view->readable, 0);
    view->flags = USER_SS;
    run_user(&trap, look_in_ring_3, (u64)view);
    check_eq("pushf shows IF clear", view->flags & RFLAGS_IF, 0);
    check_eq("lar of its own data", RIGHTS(*view), ZF_SET | 0x00c0f200);
    check_eq("verw of its own data", view->writable, 1);
}

static void control_registers(void) {
    section("control registers, CPUID, TSC");
    check_eq("cr3", read_cr3(), kernel_root);
    u64 cr0 = read_cr0();
    check_eq("cr0: PG, WP, NE, MP, PE", cr0 & 0x80010023, 0x80010023);
    write_cr2(0x123456789abc);
    check_eq("cr2 can be written", read_cr2(), 0x123456789abc);
    __asm__ volatile("lmsw %w0" : : "r"((u32)cr0 | CR0_TS));
    check_eq("lmsw sets TS", read_cr0(), cr0 | CR0_TS);
    __asm__ volatile("clts");
    check_eq("clts clears it", read_cr0(), cr0);
    check_eq("efer: LME, LMA", rdmsr(MSR_EFER) & 0x500, 0x500);
    wrmsr(MSR_KERNEL_GS_BASE, 0xffff900012345678);
    check_eq("an MSR keeps what is written", rdmsr(MSR_KERNEL_GS_BASE), 0xffff900012345678);

    struct cpuid_result r = cpuid(0, 0), one = cpuid(1, 0);
    check("cpuid has leaf 1", r.eax >= 1);
    bool printable = true;
    for (int i = 0; i < 12; i++)
        printable &= cpu.vendor[i] >= ' ' && cpu.vendor[i] < 0x7f;
    check("the vendor can be printed", printable);
    const u32 wanted = 1 << 0 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 24 | 1 << 25 | 1 << 26;
    check_eq("FPU, PSE, TSC, MSR, PAE, CX8, FXSR, SSE, SSE2", one.edx & wanted, wanted);
    check_eq("long mode", cpuid(0x80000001, 0).edx >> 29 & 1, 1);
    check("linear addresses of at least 48 bits", (cpuid(0x80000008, 0).eax >> 8 & 0xff) >= 48);
    struct cpuid_result again = cpuid(0, 0);
    check("cpuid says the same twice", again.eax == r.eax && again.ebx == r.ebx && again.edx == r.edx);

    bool rises = true;
    u64 last = rdtsc();
    for (int i = 0; i < 1000; i++) {
        u64 now = rdtsc();
        rises &= now >= last;
        last = now;
    }
    check("the TSC never goes back", rises);
    u64 start = rdtsc();
    for (int i = 0; i < 10000; i++)
        barrier();
    check("and goes on", rdtsc() > start);
}

void test_registers(void) {
    flags();
    from_ring_0();
    from_ring_3();
    control_registers();
}
