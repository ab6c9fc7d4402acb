#include "check.h"

#include "console.h"
#include "features.h"

enum { DEBUG_EXIT_PORT = 0xf4 };

static unsigned checks, failures;

_Noreturn void halt_forever(void);

void section(const char *title) { print("-- %s\n", title); }

void check_failed(const char *name) {
    checks++;
    failures++;
    print("FAIL %s: ", name);
}

void check(const char *name, bool ok) { check_eq(name, ok, true); }

void check_eq(const char *name, u64 got, u64 want) {
    if (got == want) {
        checks++;
        print("ok   %s\n", name);
    } else {
        check_failed(name);
        print("got %lx want %lx\n", got, want);
    }
}

void skip(const char *name, const char *why) { print("skip %s (%s)\n", name, why); }

bool skip_on_tcg(const char *name) {
    if (cpu.tcg)
        skip(name, "TCG differs from the manual");
    return cpu.tcg;
}

static _Noreturn void leave(u32 value) {
    console_flush();
    out32(DEBUG_EXIT_PORT, value);
    halt_forever(); /* a machine without the device: halting is the best that is left */
}

_Noreturn void verdict(void) {
    if (failures) {
        print("FAIL %u of %u checks\n", failures, checks);
        leave(1);
    }
    print("PASS %u checks\n", checks);
    leave(0);
}

_Noreturn void give_up(const char *why) {
    check_failed("guest");
    print("%s\n", why);
    verdict();
}
