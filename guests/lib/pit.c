#include "pit.h"

enum { CHANNEL0 = 0x40, COMMAND = 0x43 };
enum { LATCH = 0x00, LOW_HIGH = 0x30, MODE0 = 0x00, MODE2 = 0x04 };

static void load(u8 mode, u16 count) {
    out8(COMMAND, LOW_HIGH | mode);
    out8(CHANNEL0, (u8)count);
    out8(CHANNEL0, (u8)(count >> 8));
}

void pit_periodic(u16 divisor) { load(MODE2, divisor); }
void pit_one_shot(u16 count) { load(MODE0, count); }
void pit_stop(void) { out8(COMMAND, LOW_HIGH | MODE0); }

u16 pit_read(void) {
    out8(COMMAND, LATCH);
    u8 low = in8(CHANNEL0);
    return (u16)(low | in8(CHANNEL0) << 8);
}
