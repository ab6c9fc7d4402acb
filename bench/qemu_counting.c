/* A TCG plugin for QEMU that counts as its own hotblocks and howvec do, for bench/counting.py.
 *
 *   blocks     one addition per block, inline in the translated code   (hotblocks,inline=on)
 *   callbacks  one call per block, which adds                          (hotblocks)
 *   classes    one addition per instruction, inline, by opcode byte    (howvec,inline=on)
 *
 * At the end it prints how many instructions its counts stand for. No package of Debian has qemu-plugin.h, so what is used
 * of version 1 of the interface is declared here (QEMU's documentation, "QEMU TCG Plugins", API).
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { NO_REGISTERS = 0, ADD_U64 = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*cb)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned, void *), int flags, void *data);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *word, uint64_t value);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *word, uint64_t value);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t number);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
extern void qemu_plugin_register_atexit_cb(plugin_id id, void (*cb)(plugin_id, void *), void *data);

EXPORT int qemu_plugin_version = 1;

struct block {
    uint64_t count, address;
    size_t instructions;
    struct block *next;
};

static struct block *blocks;
static uint64_t classes[256];
static enum { BLOCKS, CALLBACKS, CLASSES } mode;

static void count(unsigned cpu, void *data) {
    (void)cpu;
    ((struct block *)data)->count++;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
    (void)id;
    const size_t instructions = qemu_plugin_tb_n_insns(tb);
    if (mode == CLASSES) {
        for (size_t i = 0; i < instructions; i++) {
            struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
            const unsigned char opcode = *(const unsigned char *)qemu_plugin_insn_data(insn);
            qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD_U64, &classes[opcode], 1);
        }
        return;
    }
    struct block *block = calloc(1, sizeof *block);
    if (block == NULL)
        abort();
    *block = (struct block){.address = qemu_plugin_tb_vaddr(tb), .instructions = instructions, .next = blocks};
    blocks = block;
    if (mode == BLOCKS)
        qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &block->count, 1);
    else
        qemu_plugin_register_vcpu_tb_exec_cb(tb, count, NO_REGISTERS, block);
}

static void at_exit(plugin_id id, void *data) {
    (void)id;
    (void)data;
    uint64_t total = 0;
    for (const struct block *block = blocks; block != NULL; block = block->next)
        total += block->count * block->instructions;
    for (unsigned i = 0; i < 256; i++)
        total += classes[i];
    fprintf(stderr, "plugin: %llu instructions\n", (unsigned long long)total);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    static const char *const names[] = {"count=blocks", "count=callbacks", "count=classes"};
    for (unsigned i = 0; argc == 1 && i < 3; i++) {
        if (strcmp(argv[0], names[i]) == 0) {
            mode = i;
            qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
            qemu_plugin_register_atexit_cb(id, at_exit, NULL);
            return 0;
        }
    }
    fprintf(stderr, "plugin: give count=blocks, count=callbacks or count=classes\n");
    return -1;
}
