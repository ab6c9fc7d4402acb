/* UART, RTC and CMOS memory. Nothing may be printed while the UART is being tested: results are kept until the end. */
#include "selftest.h"

#include "check.h"
#include "console.h"
#include "pic.h"
#include "traps.h"

enum { UART_IRQ = 4, RBR = 0, THR = 0, DLL = 0, IER = 1, DLM = 1, IIR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCRATCH = 7 };
enum { IER_RECEIVED = 1, IER_THR_EMPTY = 2, LCR_DLAB = 0x80, MCR_OUT2 = 8, MCR_LOOP = 0x10, LSR_DATA = 1 };
enum { IIR_NONE = 1, IIR_THR_EMPTY = 2, PATIENCE = 100000 };

static u8 get(int reg) { return in8((u16)(COM1 + reg)); }
static void put(int reg, u8 value) { out8((u16)(COM1 + reg), value); }

static volatile unsigned uart_interrupts;
static volatile u8 uart_cause;

static bool uart_handler(struct frame *frame) {
    (void)frame;
    uart_interrupts++;
    uart_cause = get(IIR) & 0xf; /* reading it takes "transmitter empty" back */
    put(IER, 0);
    pic_eoi(UART_IRQ);
    return true;
}

static void uart_registers(void) {
    put(SCRATCH, 0xa5);
    u8 scratch = get(SCRATCH);
    put(SCRATCH, 0x5a);
    u8 inverse = get(SCRATCH), lcr = get(LCR);
    put(LCR, lcr | LCR_DLAB);
    u8 low = get(DLL), high = get(DLM);
    put(DLL, 0x34);
    put(DLM, 0x12);
    u8 new_low = get(DLL), new_high = get(DLM);
    put(DLL, low);
    put(DLM, high);
    put(LCR, lcr);
    u8 ier = get(IER);
    check("the scratch register keeps what is written", scratch == 0xa5 && inverse == 0x5a);
    check_eq("the divisor is what the console set", low | high << 8, 1);
    check_eq("and keeps what is written", new_low | new_high << 8, 0x1234);
    check_eq("without DLAB it is the interrupt register", ier, 0);
}

static void uart_loopback(void) {
    console_flush();
    u8 mcr = get(MCR), received[3] = {0}, modem;
    bool came = true;
    put(MCR, MCR_LOOP | 0x0f);
    modem = get(MSR) >> 4; /* OUT2, OUT1, RTS, DTR come back as DCD, RI, CTS, DSR */
    while (get(LSR) & LSR_DATA)
        get(RBR);
    for (int i = 0; i < 3; i++) {
        put(THR, (u8)(0x40 + i));
        int left = PATIENCE;
        while (!(get(LSR) & LSR_DATA) && left)
            left--;
        came &= left > 0;
        received[i] = get(RBR);
    }
    u8 after = get(LSR);
    put(MCR, mcr);
    check("loopback: bytes come", came);
    check("and are those sent", received[0] == 0x40 && received[1] == 0x41 && received[2] == 0x42);
    check_eq("then there is no more", after & LSR_DATA, 0);
    check_eq("loopback of the modem lines", modem, 0xf);
}

static void uart_interrupt(void) {
    console_flush();
    set_trap_handler(VEC_IRQ0 + UART_IRQ, uart_handler);
    pic_unmask(UART_IRQ);
    u8 mcr = get(MCR), idle = get(IIR) & 0xf;
    put(MCR, mcr | MCR_OUT2); /* OUT2 opens the way to the PIC */
    put(IER, IER_THR_EMPTY);
    for (int i = 0; i < PATIENCE && !uart_interrupts; i++)
        sti_nop_cli();
    unsigned first = uart_interrupts;
    u8 cause = uart_cause, later = get(IIR) & 0xf;
    put(THR, '\r'); /* with the interrupt off in IER again: none comes */
    console_flush();
    sti_nop_cli();
    unsigned second = uart_interrupts;
    put(MCR, mcr);
    pic_mask(UART_IRQ);
    set_trap_handler(VEC_IRQ0 + UART_IRQ, NULL);
    check_eq("no interrupt is pending at first", idle, IIR_NONE);
    check_eq("an empty transmitter interrupts once enabled", first, 1);
    check_eq("and says so", cause, IIR_THR_EMPTY);
    check_eq("reading that takes it back", later, IIR_NONE);
    check_eq("disabled it does not come", second, 1);
}

enum { CMOS_INDEX = 0x70, CMOS_DATA = 0x71, RTC_A = 0xa, RTC_B = 0xb, RTC_D = 0xd, UIP = 0x80, VALID = 0x80 };
enum { RTC_B_24H = 2, RTC_B_BINARY = 4, SECONDS = 0, MINUTES = 2, HOURS = 4, DAY = 7, MONTH = 8, YEAR = 9 };

static u8 cmos(u8 index) {
    out8(CMOS_INDEX, index);
    return in8(CMOS_DATA);
}
static void cmos_write(u8 index, u8 value) {
    out8(CMOS_INDEX, index);
    out8(CMOS_DATA, value);
}

static unsigned number(u8 value) { return cmos(RTC_B) & RTC_B_BINARY ? value : (value >> 4) * 10u + (value & 15u); }

/* Reads all of it twice, until both are the same: no update came in between. */
static bool read_clock(u8 time[6]) {
    static const u8 registers[6] = {SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR};
    for (int attempt = 0; attempt < 100; attempt++) {
        for (int i = 0; cmos(RTC_A) & UIP; i++)
            if (i == PATIENCE)
                return false;
        bool same = true;
        for (int i = 0; i < 6; i++)
            time[i] = cmos(registers[i]);
        for (int i = 0; i < 6; i++)
            same &= time[i] == cmos(registers[i]);
        if (same)
            return true;
    }
    return false;
}

static void rtc(void) {
    section("RTC and CMOS");
    u8 time[6];
    check("the clock can be read between updates", read_clock(time));
    check_eq("its battery is good", cmos(RTC_D) & VALID, VALID);
    check("seconds and minutes", number(time[0]) < 60 && number(time[1]) < 60);
    check("hours", cmos(RTC_B) & RTC_B_24H ? number(time[2]) < 24 : number(time[2] & 0x7f) <= 12);
    check("day and month", number(time[3]) - 1 < 31 && number(time[4]) - 1 < 12);
    check("year", number(time[5]) < 100);
    enum { SOMEWHERE = 0x7a }; /* CMOS memory that no BIOS uses */
    u8 saved = cmos(SOMEWHERE);
    cmos_write(SOMEWHERE, 0xc3);
    cmos_write(SOMEWHERE + 1, 0x3c);
    check_eq("CMOS memory keeps what is written", cmos(SOMEWHERE) << 8 | cmos(SOMEWHERE + 1), 0xc33c);
    cmos_write(SOMEWHERE, saved);
}

void test_devices(void) {
    section("UART");
    uart_registers();
    uart_loopback();
    uart_interrupt();
    rtc();
}
