/* Functions whose stack frames are laid out in each way that a compiler has. */
#pragma once
#include "x86.h"

/* With a frame pointer (main.c). */
u64 deepest(u64 n);

/* Without one (omitted.c). Each adds something of its own to what deepest() returns. */
u64 omitted(u64 n);
u64 omitted_with_locals(u64 n);
u64 omitted_of_varying_size(u64 n);
u64 omitted_and_aligned(u64 n);
u64 omitted_and_trapping(u64 n);
