/* Serial console on COM1 (16550, polled) and a printf that knows %s %c %d %u %x, widths, zero fill and the l prefix. */
#pragma once
#include "x86.h"

enum { COM1 = 0x3f8 };

void console_init(void);
void console_putc(char c);
/* Waits until the last byte has left the transmitter: needed before tests that reprogram the UART. */
void console_flush(void);
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);
