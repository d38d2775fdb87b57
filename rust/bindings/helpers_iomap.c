// SPDX-License-Identifier: GPL-2.0
#include "calf_bindings.h"

#include <linux/blk_types.h>

void calf_ioend_queue_init(struct calf_ioend_queue *q, work_func_t func)
{
	spin_lock_init(&q->lock);
	INIT_LIST_HEAD(&q->list);
	INIT_WORK(&q->work, func);
	q->wq = NULL;
}

void calf_ioend_queue_add(struct calf_ioend_queue *q, struct workqueue_struct *wq,
			  struct iomap_ioend *ioend)
{
	unsigned long flags;

	spin_lock_irqsave(&q->lock, flags);
	if (list_empty(&q->list)) {
		q->wq = wq;
		queue_work(wq, &q->work);
	}
	list_add_tail(&ioend->io_list, &q->list);
	spin_unlock_irqrestore(&q->lock, flags);
}

void calf_ioend_queue_take(struct calf_ioend_queue *q, struct list_head *to)
{
	unsigned long flags;

	spin_lock_irqsave(&q->lock, flags);
	list_replace_init(&q->list, to);
	spin_unlock_irqrestore(&q->lock, flags);
	iomap_sort_ioends(to);
}

struct calf_ioend_queue *calf_ioend_queue_of(struct work_struct *work)
{
	return container_of(work, struct calf_ioend_queue, work);
}

struct iomap_ioend *calf_ioend_next(struct list_head *list)
{
	struct iomap_ioend *ioend;

	ioend = list_first_entry_or_null(list, struct iomap_ioend, io_list);
	if (!ioend)
		return NULL;
	list_del_init(&ioend->io_list);
	iomap_ioend_try_merge(ioend, list);
	return ioend;
}

void calf_init_list_head(struct list_head *list)
{
	INIT_LIST_HEAD(list);
}

struct iomap_ioend *calf_ioend_from_bio(struct bio *bio)
{
	return iomap_ioend_from_bio(bio);
}

int calf_ioend_error(struct iomap_ioend *ioend)
{
	return blk_status_to_errno(ioend->io_bio.bi_status);
}

void calf_ioend_set_end_io(struct iomap_ioend *ioend, bio_end_io_t *end_io)
{
	ioend->io_bio.bi_end_io = end_io;
	/* Completion is deferred already: do not let the block layer defer it again. */
	bio_clear_flag(&ioend->io_bio, BIO_COMPLETE_IN_TASK);
}

struct workqueue_struct *calf_alloc_workqueue(const char *name)
{
	return alloc_workqueue("calf-%s", WQ_MEM_RECLAIM | WQ_UNBOUND, 0, name);
}

unsigned int calf_iomap_fill_dirty_folios(struct iomap *iomap, loff_t *start, loff_t end,
					  unsigned int *flags)
{
	struct iomap_iter *iter = container_of(iomap, struct iomap_iter, iomap);

	return iomap_fill_dirty_folios(iter, start, end, flags);
}

u64 calf_iomap_last_written_block(struct inode *inode, loff_t pos, ssize_t written)
{
	return iomap_last_written_block(inode, pos, written);
}

bool calf_invalidate_is_held_write(struct inode *inode)
{
	struct rw_semaphore *sem = &inode->i_mapping->invalidate_lock;

	rwsem_assert_held_write(sem);
	return calf_rwsem_is_write_held(sem);
}

void calf_mapping_set_large_folios(struct address_space *mapping)
{
	mapping_set_large_folios(mapping);
}

size_t calf_iov_iter_count(const struct iov_iter *i)
{
	return iov_iter_count(i);
}

struct inode *calf_file_inode(const struct file *file)
{
	return file_inode(file);
}

void calf_file_accessed(struct file *file)
{
	file_accessed(file);
}

ssize_t calf_generic_write_sync(struct kiocb *iocb, ssize_t count)
{
	return generic_write_sync(iocb, count);
}

void calf_mmap_prepare(struct vm_area_desc *desc, const struct vm_operations_struct *ops)
{
	file_accessed(desc->file);
	desc->vm_ops = ops;
}

void calf_file_set_odirect(struct file *file)
{
	file->f_mode |= FMODE_CAN_ODIRECT | FMODE_NOWAIT | FMODE_CAN_ATOMIC_WRITE;
}

struct inode *calf_vmf_inode(struct vm_fault *vmf)
{
	return file_inode(vmf->vma->vm_file);
}

struct file *calf_vmf_file(struct vm_fault *vmf)
{
	return vmf->vma->vm_file;
}

void calf_sync_inodes(struct super_block *sb)
{
	if (down_read_trylock(&sb->s_umount)) {
		sync_inodes_sb(sb);
		up_read(&sb->s_umount);
	}
}

void calf_sb_start_pagefault(struct super_block *sb)
{
	sb_start_pagefault(sb);
}

void calf_sb_end_pagefault(struct super_block *sb)
{
	sb_end_pagefault(sb);
}

void calf_iomap_bio_read_folio(struct folio *folio, const struct iomap_ops *ops)
{
	iomap_bio_read_folio(folio, ops);
}

void calf_iomap_bio_readahead(struct readahead_control *rac, const struct iomap_ops *ops)
{
	iomap_bio_readahead(rac, ops);
}

vm_fault_t calf_vmf_error(int err)
{
	return vmf_fs_error(err);
}

bool calf_vmf_failed(vm_fault_t ret)
{
	return ret & VM_FAULT_ERROR;
}

loff_t calf_vmf_folio_pos(struct vm_fault *vmf)
{
	return folio_pos(page_folio(vmf->page));
}

size_t calf_vmf_folio_size(struct vm_fault *vmf)
{
	return folio_size(page_folio(vmf->page));
}

int calf_swap_activate(struct swap_info_struct *sis, struct file *file, sector_t *span,
		       const struct iomap_ops *ops)
{
	sis->bdev = file_inode(file)->i_sb->s_bdev;
	return iomap_swapfile_activate(sis, file, span, ops);
}
