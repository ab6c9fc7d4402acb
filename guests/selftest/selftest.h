/* What an operating system takes for granted, by parts. */
#pragma once
#include "x86.h"

/* interrupts.c: timer ticks counted so far by its handler, and a pending one made with IF off. */
extern struct tick_page {
    volatile u64 count, target; /* the target is for ring 3, see user_mode.c */
    u64 rest[510];
} tick_page;
#define ticks tick_page.count
extern volatile u64 tick_rip, tick_flags;
void timer_handler_install(void);
void make_tick_pending(void);

void test_interrupts(void);
void test_registers(void);
void test_user_mode(void);
void test_syscalls(void);
void test_segment_bases(void);
void test_strings(void);
void test_transfers(void);
void test_arithmetic(void);
void test_floating_point(void);
void test_devices(void);
