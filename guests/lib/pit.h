/* Channel 0 of the 8254: the timer on IRQ 0. */
#pragma once
#include "x86.h"

enum { PIT_IRQ = 0, PIT_HZ = 1193182 };

void pit_periodic(u16 divisor);   /* mode 2: an interrupt every `divisor` ticks of 1.193182 MHz */
void pit_one_shot(u16 count);     /* mode 0: one interrupt after `count` ticks */
void pit_stop(void);              /* mode 0 without a count: no more interrupts */
u16 pit_read(void);               /* the latched count */
