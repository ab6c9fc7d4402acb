/* A CPU-bound mix of integer work. Freestanding: compiled for the guest and for the host from the same source. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct mix_part {
    const char *name;
    uint64_t (*run)(void); /* a checksum of the work done */
};

enum { MIX_PARTS = 8 };
extern const struct mix_part mix_parts[MIX_PARTS];
