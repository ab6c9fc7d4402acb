/* Checks and the verdict. A guest prints one line per check, then "PASS n checks" or "FAIL n of m checks", and leaves
 * through isa-debug-exit (port 0xf4): value 0 on pass, 1 on failure, which QEMU turns into exit codes 1 and 3. */
#pragma once
#include "x86.h"

void section(const char *title);
void check(const char *name, bool ok);
void check_eq(const char *name, u64 got, u64 want);
void skip(const char *name, const char *why);
/* For the few places where QEMU's software CPU (TCG, 7.2) is known not to do what the manual says: there it prints a
 * skip line and returns true; everywhere else it returns false and the check is made. */
bool skip_on_tcg(const char *name);
/* A failed check that has its own words for what went wrong; the line is started here and ended by the caller. */
void check_failed(const char *name);
_Noreturn void verdict(void);
/* For what cannot go on: says why, counts as a failure and leaves. */
_Noreturn void give_up(const char *why);
