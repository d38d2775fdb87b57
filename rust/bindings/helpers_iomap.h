/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of the `iomap` area: inlines and macros that bindgen cannot bind. */
#ifndef CALF_HELPERS_IOMAP_H
#define CALF_HELPERS_IOMAP_H

#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/list.h>
#include <linux/pagemap.h>
#include <linux/spinlock.h>
#include <linux/swap.h>
#include <linux/types.h>
#include <linux/uio.h>
#include <linux/workqueue.h>
#include <linux/writeback.h>

static const int CALF_CONST_IOCB_DIRECT = (__force int)IOCB_DIRECT;
static const int CALF_CONST_IOCB_NOWAIT = (__force int)IOCB_NOWAIT;
static const int CALF_CONST_IOCB_APPEND = (__force int)IOCB_APPEND;
static const int CALF_CONST_IOCB_DSYNC = (__force int)IOCB_DSYNC;
static const int CALF_CONST_IOCB_ATOMIC = (__force int)IOCB_ATOMIC;

/* Ioends whose completion needs task context: filled from bi_end_io, emptied by `work`. */
struct calf_ioend_queue {
	spinlock_t lock;
	struct list_head list;
	struct work_struct work;
	struct workqueue_struct *wq;
};

void calf_ioend_queue_init(struct calf_ioend_queue *q, work_func_t func);
/* Adds @ioend, and queues the work if the list was empty. From any context. */
void calf_ioend_queue_add(struct calf_ioend_queue *q, struct workqueue_struct *wq,
			  struct iomap_ioend *ioend);
/* Moves all ioends to @to, sorted by file offset. */
void calf_ioend_queue_take(struct calf_ioend_queue *q, struct list_head *to);
struct calf_ioend_queue *calf_ioend_queue_of(struct work_struct *work);
/* Takes the first ioend of @list together with those that it merges with, or NULL. */
struct iomap_ioend *calf_ioend_next(struct list_head *list);
void calf_init_list_head(struct list_head *list);
struct iomap_ioend *calf_ioend_from_bio(struct bio *bio);
int calf_ioend_error(struct iomap_ioend *ioend);
void calf_ioend_set_end_io(struct iomap_ioend *ioend, bio_end_io_t *end_io);

struct workqueue_struct *calf_alloc_workqueue(const char *name);

unsigned int calf_iomap_fill_dirty_folios(struct iomap *iomap, loff_t *start, loff_t end,
					  unsigned int *flags);
u64 calf_iomap_last_written_block(struct inode *inode, loff_t pos, ssize_t written);
bool calf_invalidate_is_held_write(struct inode *inode);

void calf_mapping_set_large_folios(struct address_space *mapping);
size_t calf_iov_iter_count(const struct iov_iter *i);
struct inode *calf_file_inode(const struct file *file);
void calf_file_accessed(struct file *file);
ssize_t calf_generic_write_sync(struct kiocb *iocb, ssize_t count);
void calf_mmap_prepare(struct vm_area_desc *desc, const struct vm_operations_struct *ops);
void calf_file_set_odirect(struct file *file);
struct inode *calf_vmf_inode(struct vm_fault *vmf);
struct file *calf_vmf_file(struct vm_fault *vmf);
void calf_sync_inodes(struct super_block *sb);
void calf_sb_start_pagefault(struct super_block *sb);
void calf_sb_end_pagefault(struct super_block *sb);
void calf_iomap_bio_read_folio(struct folio *folio, const struct iomap_ops *ops);
void calf_iomap_bio_readahead(struct readahead_control *rac, const struct iomap_ops *ops);
vm_fault_t calf_vmf_error(int err);
bool calf_vmf_failed(vm_fault_t ret);
loff_t calf_vmf_folio_pos(struct vm_fault *vmf);
size_t calf_vmf_folio_size(struct vm_fault *vmf);
int calf_swap_activate(struct swap_info_struct *sis, struct file *file, sector_t *span,
		       const struct iomap_ops *ops);

#endif /* CALF_HELPERS_IOMAP_H */
