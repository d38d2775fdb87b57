// SPDX-License-Identifier: GPL-2.0
#include "check_bindings.h"

#include <linux/blkdev.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/preempt.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define CREATE_TRACE_POINTS
#include "check_events.h"

bool check_in_nmi(void)
{
	return in_nmi();
}

bool check_in_task(void)
{
	return in_task();
}

loff_t check_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

u64 check_bdev_nr_bytes(struct block_device *bdev)
{
	return bdev_nr_bytes(bdev);
}

unsigned int check_bdev_logical_block_size(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}

bool check_iocb_is_dsync(const struct kiocb *iocb)
{
	return iocb_is_dsync(iocb);
}

void check_iov_look(const struct iov_iter *iter, struct check_iov *out)
{
	out->left = iov_iter_count(iter);
	out->writes = iov_iter_rw(iter) == WRITE;
	out->used = iter->iov_offset != 0;
}

struct inode *check_file_inode(const struct file *file)
{
	/* Not file_inode(): the inode of a device file is not that of the device. */
	return file->f_mapping->host;
}

struct inode *check_vmf_inode(const struct vm_fault *vmf)
{
	return file_inode(vmf->vma->vm_file);
}

static bool held_write(const struct rw_semaphore *sem)
{
	/* rwsem.h keeps the test of the writer bit behind rwsem_assert_held_write(). */
	return atomic_long_read(&sem->count) & 1;
}

bool check_invalidate_held_write(const struct inode *inode)
{
	return held_write(&inode->i_mapping->invalidate_lock);
}

bool check_invalidate_held(struct inode *inode)
{
	return rwsem_is_locked(&inode->i_mapping->invalidate_lock);
}

bool check_inode_lock_held(struct inode *inode)
{
	return rwsem_is_locked(&inode->i_rwsem);
}

bool check_inode_is_quiet(const struct inode *inode)
{
	const struct address_space *mapping = inode->i_mapping;

	return !mapping_tagged(mapping, PAGECACHE_TAG_WRITEBACK) && !atomic_read(&inode->i_dio_count);
}

void check_tracepoint_synchronize(void)
{
	tracepoint_synchronize_unregister();
}

int check_symbol(char *buf, unsigned long address)
{
	BUILD_BUG_ON(CHECK_SYMBOL_LEN < KSYM_SYMBOL_LEN);
	return sprint_symbol_no_offset(buf, address);
}

int check_table_symbol(char *buf, unsigned long table)
{
	unsigned long functions[2];
	int len = check_symbol(buf, table);

	/* Tables made by Rust have no names; their functions do. */
	if (strncmp(buf, "0x", 2) == 0 &&
	    !copy_from_kernel_nofault(functions, (void *)table, sizeof(functions)) &&
	    (functions[0] || functions[1]))
		len = check_symbol(buf, functions[0] ?: functions[1]);
	return len;
}

void check_trace_report(struct inode *inode, const char *rule, const char *fs, u64 pos, u64 len,
			unsigned int flags, const char *why)
{
	trace_iomap_check_report(inode, rule, fs, pos, len, flags, why);
}

struct check_probe {
#ifdef CONFIG_KPROBES
	struct kprobe kp;
#endif
#ifdef CONFIG_KRETPROBES
	struct kretprobe rp;
#endif
	check_enter_t enter;
	check_leave_t leave;
	void *data;
};

/* Handlers of kprobes may not sleep, and with PREEMPT_RT the locks of their listener do. */
#if defined(CONFIG_KPROBES) && defined(CONFIG_KRETPROBES) && !defined(CONFIG_PREEMPT_RT)
static int probe_enter(struct kprobe *kp, struct pt_regs *regs)
{
	struct check_probe *probe = container_of(kp, struct check_probe, kp);

	probe->enter(probe->data, regs_get_kernel_argument(regs, 0), 0);
	return 0;
}

/* Where the function that begins was called from; the kretprobe has not noted it yet. */
static unsigned long caller_of(struct pt_regs *regs)
{
#if defined(CONFIG_X86)
	return regs_get_kernel_stack_nth(regs, 0);
#elif defined(CONFIG_ARM64)
	return procedure_link_pointer(regs);
#else
	return 0;
#endif
}

static int probe_remember(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct check_probe *probe = container_of(get_kretprobe(ri), struct check_probe, rp);
	unsigned long arg0 = regs_get_kernel_argument(regs, 0);

	*(unsigned long *)ri->data = arg0;
	if (probe->enter)
		probe->enter(probe->data, arg0, caller_of(regs));
	return 0;
}

static int probe_leave(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct check_probe *probe = container_of(get_kretprobe(ri), struct check_probe, rp);

	probe->leave(probe->data, *(unsigned long *)ri->data, regs_return_value(regs));
	return 0;
}

int check_probe_register(struct check_probe **out, const char *symbol, check_enter_t enter,
			 check_leave_t leave, void *data)
{
	struct check_probe *probe = kzalloc(sizeof(*probe), GFP_KERNEL);
	int err;

	if (!probe)
		return -ENOMEM;
	probe->enter = enter;
	probe->leave = leave;
	probe->data = data;
	if (leave) {
		probe->rp.kp.symbol_name = symbol;
		probe->rp.entry_handler = probe_remember;
		probe->rp.handler = probe_leave;
		probe->rp.data_size = sizeof(unsigned long);
		probe->rp.maxactive = 64;
		err = register_kretprobe(&probe->rp);
	} else {
		probe->kp.symbol_name = symbol;
		probe->kp.pre_handler = probe_enter;
		err = register_kprobe(&probe->kp);
	}
	if (err) {
		kfree(probe);
		return err;
	}
	*out = probe;
	return 0;
}

void check_probe_unregister(struct check_probe *probe)
{
	if (probe->leave)
		unregister_kretprobe(&probe->rp);
	else
		unregister_kprobe(&probe->kp);
	kfree(probe);
}
#else
int check_probe_register(struct check_probe **out, const char *symbol, check_enter_t enter,
			 check_leave_t leave, void *data)
{
	return -EOPNOTSUPP;
}

void check_probe_unregister(struct check_probe *probe)
{
}
#endif
