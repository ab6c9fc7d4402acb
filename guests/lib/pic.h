/* The pair of 8259 interrupt controllers, remapped to vectors 0x20 to 0x2f, all lines masked to begin with. */
#pragma once
#include "x86.h"

void pic_init(void);
void pic_unmask(unsigned irq);
void pic_mask(unsigned irq);
void pic_eoi(unsigned irq);
/* Interrupt request and in-service registers of both chips: bit n is line n. */
u16 pic_requests(void);
u16 pic_in_service(void);
