#include "console.h"

#include <stdarg.h>

enum { THR = 0, IER = 1, FCR = 2, LCR = 3, MCR = 4, LSR = 5 };
enum { LCR_8N1 = 0x03, LCR_DLAB = 0x80, LSR_THRE = 0x20, LSR_TEMT = 0x40 };

void console_init(void) {
    out8(COM1 + IER, 0);
    out8(COM1 + LCR, LCR_DLAB | LCR_8N1);
    out8(COM1 + 0, 1); /* divisor 1: 115200 baud */
    out8(COM1 + 1, 0);
    out8(COM1 + LCR, LCR_8N1);
    out8(COM1 + FCR, 0x07); /* FIFOs on and emptied */
    out8(COM1 + MCR, 0x03); /* DTR, RTS */
}

void console_putc(char c) {
    if (c == '\n')
        console_putc('\r');
    while (!(in8(COM1 + LSR) & LSR_THRE))
        ;
    out8(COM1 + THR, (u8)c);
}

void console_flush(void) {
    while (!(in8(COM1 + LSR) & LSR_TEMT))
        ;
}

static void print_string(const char *s, int width) {
    int length = 0;
    for (; *s; s++, length++)
        console_putc(*s);
    for (; length < width; length++)
        console_putc(' ');
}

static void print_number(u64 value, unsigned base, int width, char fill, bool negative) {
    char digits[24];
    int n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative)
        digits[n++] = '-';
    for (int i = n; i < width; i++)
        console_putc(fill);
    while (n)
        console_putc(digits[--n]);
}

void print(const char *format, ...) {
    va_list args;
    va_start(args, format);
    for (; *format; format++) {
        if (*format != '%') {
            console_putc(*format);
            continue;
        }
        format++;
        char fill = ' ';
        int width = 0;
        bool is_long = false;
        if (*format == '-') /* strings are padded on the right anyway */
            format++;
        if (*format == '0')
            fill = *format++;
        while (*format >= '0' && *format <= '9')
            width = width * 10 + (*format++ - '0');
        while (*format == 'l') {
            is_long = true;
            format++;
        }
        switch (*format) {
        case 's': print_string(va_arg(args, const char *), width); break;
        case 'c': console_putc((char)va_arg(args, int)); break;
        case 'd': {
            long value = is_long ? va_arg(args, long) : va_arg(args, int);
            print_number(value < 0 ? -(u64)value : (u64)value, 10, width, fill, value < 0);
            break;
        }
        case 'u': print_number(is_long ? va_arg(args, u64) : va_arg(args, u32), 10, width, fill, false); break;
        case 'x': print_number(is_long ? va_arg(args, u64) : va_arg(args, u32), 16, width, fill, false); break;
        default: console_putc(*format);
        }
    }
    va_end(args);
}
