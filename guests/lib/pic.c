#include "pic.h"

#include "traps.h"

enum { MASTER = 0x20, SLAVE = 0xa0, DATA = 1 };
enum { ICW1_INIT_ICW4 = 0x11, ICW4_8086 = 0x01, OCW2_EOI = 0x20, OCW3_READ_IRR = 0x0a, OCW3_READ_ISR = 0x0b };
enum { CASCADE = 2, SPURIOUS = 7 };

/* A request that is withdrawn before the CPU asks which one it was comes as line 7, without being in service: no EOI. */
static bool spurious(struct frame *frame) {
    (void)frame;
    return !(pic_in_service() & 1 << SPURIOUS);
}

void pic_init(void) {
    set_trap_handler(VEC_IRQ0 + SPURIOUS, spurious);
    out8(MASTER, ICW1_INIT_ICW4);
    out8(SLAVE, ICW1_INIT_ICW4);
    out8(MASTER + DATA, VEC_IRQ0);
    out8(SLAVE + DATA, VEC_IRQ0 + 8);
    out8(MASTER + DATA, 1 << CASCADE);
    out8(SLAVE + DATA, CASCADE);
    out8(MASTER + DATA, ICW4_8086);
    out8(SLAVE + DATA, ICW4_8086);
    out8(MASTER + DATA, 0xff & ~(1 << CASCADE));
    out8(SLAVE + DATA, 0xff);
}

static u16 mask_port(unsigned irq) { return (irq < 8 ? MASTER : SLAVE) + DATA; }

void pic_unmask(unsigned irq) { out8(mask_port(irq), in8(mask_port(irq)) & (u8) ~(1 << (irq & 7))); }
void pic_mask(unsigned irq) { out8(mask_port(irq), in8(mask_port(irq)) | (u8)(1 << (irq & 7))); }

void pic_eoi(unsigned irq) {
    if (irq >= 8)
        out8(SLAVE, OCW2_EOI);
    out8(MASTER, OCW2_EOI);
}

static u16 read_both(u8 command) {
    out8(MASTER, command);
    out8(SLAVE, command);
    return (u16)(in8(MASTER) | in8(SLAVE) << 8);
}

u16 pic_requests(void) { return read_both(OCW3_READ_IRR); }
u16 pic_in_service(void) { return read_both(OCW3_READ_ISR); }
