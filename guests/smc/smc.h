/* Self-modifying code. */
#pragma once
#include "paging.h"
#include "x86.h"

typedef u64 (*function)(void);

enum { SLOT_SMC = 40 };
static const u64 code_va = (u64)SLOT_SMC << 39;

/* x86 machine code of `mov $value, %eax; ret`: 6 bytes, the value at offset 1. */
enum { RETURN_VALUE_SIZE = 6, RETURN_VALUE_AT = 1 };
void write_return_value(void *code, u32 value);

/* Stores that the compiler neither merges nor moves */
static inline void poke8(volatile void *at, u8 value) { *(volatile u8 *)at = value; }
static inline void poke32(volatile void *at, u32 value) { *(volatile u32 *)at = value; }
static inline void poke64(volatile void *at, u64 value) { *(volatile u64 *)at = value; }

/* What manuals want between a cross-modifying store and the call where the CPU might have fetched ahead by another
 * linear address: a serializing instruction. */
static inline void serialize(void) { cpuid(0, 0); }

void test_own_code(void);       /* patched.S: stores into the code that runs */
void test_pages(void);          /* fresh pages, shared pages, page ends */
void test_mappings(void);       /* aliases, remaps, read-only code */
void test_user_code(void);
