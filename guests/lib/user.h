/* Running code in ring 3. The user section (linked at 4 MiB) and a stack are mapped by paging_init(). */
#pragma once
#include "traps.h"

/* Assembly in the user section ends with `int $0x80`; whatever trap ends the run is what run_user() stores. */
void run_user(struct trap *trap, const void *rip, u64 arg);
void run_user_flags(struct trap *trap, const void *rip, u64 arg, u64 rflags);
void expect_user_trap(const char *name, const void *fn, u64 arg, u64 vector, u64 error, const void *rip);
void expect_user_page_fault(const char *name, const void *fn, u64 arg, u64 error, const void *rip, u64 cr2);
