// SPDX-License-Identifier: GPL-2.0
/* What the checks of a laboratory build ask the kernel: see helpers_lab.h. */
#ifdef CALF_LAB
#include <linux/folio_batch.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>

#include "helpers_lab.h"

/* The owner of a write-locked semaphore is its task; the low bits are flags. */
bool calf_lab_rwsem_is_mine(const struct rw_semaphore *sem)
{
	unsigned long owner = atomic_long_read(&sem->owner);

	return (atomic_long_read(&sem->count) & RWSEM_WRITER_LOCKED) &&
	       (owner & ~7UL) == (unsigned long)current;
}

bool calf_lab_inode_is_mine(const struct inode *inode)
{
	return calf_lab_rwsem_is_mine(&inode->i_rwsem);
}

bool calf_lab_invalidate_is_mine(const struct inode *inode)
{
	return calf_lab_rwsem_is_mine(&inode->i_mapping->invalidate_lock);
}

bool calf_lab_invalidate_is_held(const struct inode *inode)
{
	return rwsem_is_locked(&inode->i_mapping->invalidate_lock);
}

unsigned int calf_lab_context(void)
{
	unsigned int c = 0;

	if (current->flags & PF_MEMALLOC_NOFS)
		c |= CALF_LAB_NOFS;
	if (current->journal_info)
		c |= CALF_LAB_HANDLE;
	if (!in_task() || irqs_disabled() || (IS_ENABLED(CONFIG_PREEMPT_COUNT) && in_atomic()))
		c |= CALF_LAB_ATOMIC;
	if ((current->flags & (PF_MEMALLOC | PF_KSWAPD)) == PF_MEMALLOC)
		c |= CALF_LAB_RECLAIM;
	return c;
}

int calf_lab_dio_count(const struct inode *inode)
{
	return atomic_read(&inode->i_dio_count);
}

bool calf_lab_has_page(struct inode *inode, loff_t start, loff_t end)
{
	return filemap_range_has_page(inode->i_mapping, start, end - 1);
}

/*
 * May a block of [start, end) in this folio be dirty? A large folio is dirty as a whole when one of its
 * blocks is; a block that is not uptodate is certainly not the one.
 */
static bool folio_is_busy(struct inode *inode, struct folio *folio, loff_t start, loff_t end)
{
	loff_t pos = max(start, folio_pos(folio));
	bool busy = false;

	/* Whoever holds the lock may be about to dirty it. The state of its blocks goes with the lock. */
	if (!folio_trylock(folio))
		return true;
	if (folio->mapping == inode->i_mapping &&
	    (folio_test_dirty(folio) || folio_test_writeback(folio))) {
		busy = folio_test_uptodate(folio);
		for (end = min(end, folio_next_pos(folio)); !busy && pos < end; pos += i_blocksize(inode))
			busy = iomap_is_partially_uptodate(folio, pos - folio_pos(folio), i_blocksize(inode));
	}
	folio_unlock(folio);
	return busy;
}

bool calf_lab_is_busy(struct inode *inode, loff_t start, loff_t end)
{
	pgoff_t at = start >> PAGE_SHIFT, last = (end - 1) >> PAGE_SHIFT;
	struct folio_batch batch;
	bool busy = false;

	folio_batch_init(&batch);
	while (!busy && filemap_get_folios(inode->i_mapping, &at, last, &batch)) {
		for (unsigned int i = 0; i < folio_batch_count(&batch); i++)
			busy |= folio_is_busy(inode, batch.folios[i], start, end);
		folio_batch_release(&batch);
	}
	return busy;
}

bool calf_lab_is_dirty(struct inode *inode, loff_t start, loff_t end)
{
	pgoff_t at = start >> PAGE_SHIFT, last = (end - 1) >> PAGE_SHIFT;
	struct folio_batch batch;
	bool dirty = false;

	folio_batch_init(&batch);
	while (!dirty && filemap_get_folios(inode->i_mapping, &at, last, &batch)) {
		for (unsigned int i = 0; i < folio_batch_count(&batch); i++)
			dirty |= folio_test_dirty(batch.folios[i]) ||
				 folio_test_writeback(batch.folios[i]);
		folio_batch_release(&batch);
	}
	return dirty;
}
#endif
