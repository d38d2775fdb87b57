/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of iomap_check: inlines, kprobes, the trace event. */
#ifndef CHECK_HELPERS_H
#define CHECK_HELPERS_H

#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/uio.h>

bool check_iocb_is_dsync(const struct kiocb *iocb);

/* What is told of an iterator over memory. */
struct check_iov {
	u64 left;
	bool writes;
	bool used; /* stands inside of a segment */
};
void check_iov_look(const struct iov_iter *iter, struct check_iov *out);

loff_t check_i_size_read(const struct inode *inode);
u64 check_bdev_nr_bytes(struct block_device *bdev);
unsigned int check_bdev_logical_block_size(struct block_device *bdev);
struct inode *check_file_inode(const struct file *file);
struct inode *check_vmf_inode(const struct vm_fault *vmf);
bool check_invalidate_held_write(const struct inode *inode);
bool check_invalidate_held(struct inode *inode);
bool check_inode_lock_held(struct inode *inode);
bool check_inode_is_quiet(const struct inode *inode);
bool check_in_nmi(void);
bool check_in_task(void);
void check_tracepoint_synchronize(void);
/* Name of the symbol at @address; @buf has at least CHECK_SYMBOL_LEN bytes. Returns its length. */
int check_symbol(char *buf, unsigned long address);
#define CHECK_SYMBOL_LEN 768
/* The same for a table of functions: its own name, else that of its first or second. */
int check_table_symbol(char *buf, unsigned long table);

/*
 * A kprobe, or a kretprobe if @leave is given. Only a kretprobe tells @caller (0: unknown), because the function itself
 * finds a trampoline in its place. The handlers run with preemption off.
 */
struct check_probe;
typedef void (*check_enter_t)(void *data, unsigned long arg0, unsigned long caller);
typedef void (*check_leave_t)(void *data, unsigned long arg0, long ret);
int check_probe_register(struct check_probe **probe, const char *symbol, check_enter_t enter,
			 check_leave_t leave, void *data);
void check_probe_unregister(struct check_probe *probe);

void check_trace_report(struct inode *inode, const char *rule, const char *fs, u64 pos, u64 len,
			unsigned int flags, const char *why);

#endif /* CHECK_HELPERS_H */
