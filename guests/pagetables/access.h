/* Memory accesses that may fault, with the outcome as one number: the value, or FAULTED | error code. */
#pragma once
#include "paging.h"
#include "x86.h"

#define FAULTED 0xfa17000000000000ull

u64 load(u64 va);                    /* the 8 bytes there */
u64 store(u64 va, u64 value);        /* 0 when done */
u64 run(u64 va);                     /* calls it: what it returns */
u64 user_load(u64 va);               /* the same from ring 3 */
u64 user_store(u64 va, u64 value);

/* A new frame whose first word is `marker`, so that a mapping can tell which frame it leads to. */
paddr marked_frame(u64 marker);
/* A new frame that holds `mov $value, %eax; ret`. */
paddr code_frame(u32 value);
/* `count` frames, one behind the other. Cannot be given back. */
paddr frame_run(unsigned count);

static inline u64 *words(paddr frame) { return phys_to_virt(frame); }

enum { RW = PTE_P | PTE_W, RO = PTE_P, USER = PTE_P | PTE_W | PTE_U };

/* A PML4 slot of its own for each file's tests. */
static inline u64 slot_va(unsigned slot) { return (u64)slot << 39; }
