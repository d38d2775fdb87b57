// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU that counts how often each block of translated code runs between two calls of one function of the
 * guest's kernel, the marker. At the second call it writes a file: address, instructions, executions of each block.
 *
 * plugin.so,marker=HEX,out=PATH     writes PATH.0, PATH.1 ...
 *
 * One processor (-icount). The declarations are those of QEMU's qemu-plugin.h that have not changed since version 1
 * of its interface, so that the header, which few distributions ship, is not needed. CALF_PLUGIN_VERSION is the version to ask for.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned int, void *), int flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);

#define EXPORT __attribute__((visibility("default")))
#define BITS 22

struct block {
	uint64_t address, instructions, runs;
};

EXPORT int qemu_plugin_version = CALF_PLUGIN_VERSION;
static struct block *blocks[1 << BITS];
static size_t used;
static uint64_t marker;
static char *out;
static bool counting;
static int regions;

/* The entry of a block; it is never moved. A block translated once more with another length is another one. */
static struct block *find(uint64_t address, uint64_t instructions)
{
	uint64_t at = (address * 0x9e3779b97f4a7c15ull ^ instructions * 0x85ebca6bull) >> (64 - BITS);

	for (;; at = (at + 1) % (1 << BITS)) {
		struct block *b = blocks[at];

		if (!b)
			break;
		if (b->address == address && b->instructions == instructions)
			return b;
	}
	blocks[at] = calloc(1, sizeof(**blocks));
	if (!blocks[at] || ++used > (1 << BITS) / 4 * 3) {
		fprintf(stderr, "calf-profile: too much code for the table\n");
		abort();
	}
	blocks[at]->address = address;
	blocks[at]->instructions = instructions;
	return blocks[at];
}

static void write_region(void)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s.%d", out, regions++);
	f = fopen(path, "w");
	if (!f) {
		perror(path);
		abort();
	}
	for (size_t i = 0; i < 1 << BITS; i++) {
		struct block *b = blocks[i];

		if (!b || !b->runs)
			continue;
		fprintf(f, "%llx %llu %llu\n", (unsigned long long)b->address, (unsigned long long)b->instructions,
			(unsigned long long)b->runs);
		b->runs = 0;
	}
	if (fclose(f)) {
		perror(path);
		abort();
	}
}

static void ran(unsigned int cpu, void *data)
{
	struct block *b = data;

	(void)cpu;
	if (counting)
		b->runs++;
}

static void marked(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	if (counting)
		write_region();
	counting = !counting;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	uint64_t address = qemu_plugin_tb_vaddr(tb);

	(void)id;
	if (address == marker)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, marked, 0, NULL);
	qemu_plugin_register_vcpu_tb_exec_cb(tb, ran, 0, find(address, qemu_plugin_tb_n_insns(tb)));
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "marker=", 7))
			marker = strtoull(argv[i] + 7, NULL, 16);
		if (!strncmp(argv[i], "out=", 4))
			out = strdup(argv[i] + 4);
	}
	if (!marker || !out) {
		fprintf(stderr, "calf-profile: marker= and out= are needed\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
