/* Each file provokes one family of exceptions. */
#pragma once
#include "x86.h"

void test_simple_exceptions(void);    /* #DE #BP #UD #NM #MF */
void test_segment_exceptions(void);   /* #TS #NP #SS #GP with selectors, gates */
void test_protection(void);           /* #GP: privilege, control registers, canonical addresses, limits */
void test_page_faults(void);          /* #PF: every bit of the error code, CR2 */
void test_smep_smap(void);
void test_single_step(void);          /* #DB: TF, icebp; RF in saved flags */
void test_debug_registers(void);      /* #DB: DR0-DR7 */
void test_double_faults(void);        /* #DF, and the EXT bit */

/* The error code that names an IDT entry: index << 3, and bit 1. */
u64 idt_error(u8 vector);
