// SPDX-License-Identifier: GPL-2.0
#include "calf_bindings.h"

/*
 * A failed home write clears uptodate; reading the block again would bring back
 * the old version (C11), so a buffer with a write error counts as uptodate.
 */
bool calf_buffer_uptodate(struct buffer_head *bh)
{
	if (!buffer_uptodate(bh) && buffer_write_io_error(bh))
		set_buffer_uptodate(bh);
	return buffer_uptodate(bh);
}

struct buffer_head *calf_bread(struct block_device *bdev, sector_t block, unsigned int size)
{
	struct buffer_head *bh = bdev_getblk(bdev, block, size, GFP_NOFS | __GFP_MOVABLE | __GFP_NOFAIL);

	if (!bh)
		return NULL;
	if (calf_buffer_uptodate(bh))
		return bh;
	if (bh_read(bh, REQ_META | REQ_PRIO) < 0 || !buffer_uptodate(bh)) {
		brelse(bh);
		return NULL;
	}
	return bh;
}

void calf_read_ahead(struct block_device *bdev, const u64 *blocks, unsigned int n, unsigned int size)
{
	struct blk_plug plug;

	blk_start_plug(&plug);
	while (n--) {
		struct buffer_head *bh = bdev_getblk(bdev, *blocks++, size, GFP_NOWAIT | __GFP_MOVABLE);

		if (!bh)
			break;
		if (!calf_buffer_uptodate(bh))
			bh_readahead(bh, REQ_RAHEAD | REQ_META);
		brelse(bh);
	}
	blk_finish_plug(&plug);
}

struct buffer_head *calf_find_buffer(struct block_device *bdev, sector_t block, unsigned int size)
{
	return __find_get_block(bdev, block, size);
}

/* A tree node that is read again: the path that every lookup takes. */
struct buffer_head *calf_find_verified(struct block_device *bdev, sector_t block, unsigned int size)
{
	struct buffer_head *bh = __find_get_block(bdev, block, size);

	if (likely(bh && buffer_verified(bh) && calf_buffer_uptodate(bh)))
		return bh;
	brelse(bh);
	return NULL;
}

struct buffer_head *calf_getblk(struct block_device *bdev, sector_t block, unsigned int size)
{
	return bdev_getblk(bdev, block, size, GFP_NOFS | __GFP_MOVABLE | __GFP_NOFAIL);
}

void calf_get_bh(struct buffer_head *bh)
{
	get_bh(bh);
}

void calf_brelse(struct buffer_head *bh)
{
	brelse(bh);
}

void calf_lock_buffer(struct buffer_head *bh)
{
	lock_buffer(bh);
}

void calf_unlock_buffer(struct buffer_head *bh)
{
	unlock_buffer(bh);
}

void calf_mark_buffer_dirty(struct buffer_head *bh)
{
	mark_buffer_dirty(bh);
}

void calf_set_buffer_uptodate(struct buffer_head *bh)
{
	set_buffer_uptodate(bh);
}

bool calf_buffer_verified(struct buffer_head *bh)
{
	return buffer_verified(bh);
}

void calf_set_buffer_verified(struct buffer_head *bh)
{
	set_buffer_verified(bh);
}

void calf_clear_buffer_verified(struct buffer_head *bh)
{
	clear_buffer_verified(bh);
}

int calf_jbd2_handle_credits(handle_t *handle)
{
	return jbd2_handle_buffer_credits(handle);
}

int calf_jbd2_handle_revokes(handle_t *handle)
{
	return handle->h_revoke_credits;
}

tid_t calf_jbd2_handle_tid(handle_t *handle)
{
	return handle->h_transaction ? handle->h_transaction->t_tid : 0;
}

void calf_jbd2_handle_sync(handle_t *handle)
{
	handle->h_sync = 1;
}

void calf_jbd2_abort_handle(handle_t *handle)
{
	jbd2_journal_abort_handle(handle);
}

bool calf_jbd2_is_aborted(journal_t *journal)
{
	return is_journal_aborted(journal);
}

void calf_jbd2_set_barrier(journal_t *journal)
{
	write_lock(&journal->j_state_lock);
	journal->j_flags |= JBD2_BARRIER;
	write_unlock(&journal->j_state_lock);
}

/*
 * A journal on a device counts its blocks from the start of the device; one that
 * starts elsewhere needs a mapping, or it would overwrite what lies there.
 */
static int calf_jbd2_bmap(journal_t *journal, sector_t *block)
{
	if (*block >= journal->j_total_len)
		return -EFSCORRUPTED;
	*block += journal->j_blk_offset;
	return 0;
}

void calf_jbd2_set_region(journal_t *journal)
{
	journal->j_bmap = calf_jbd2_bmap;
}

void calf_jbd2_set_callback(journal_t *journal, void *private_data,
			    void (*cb)(journal_t *, transaction_t *))
{
	journal->j_private = private_data;
	journal->j_commit_callback = cb;
}

void *calf_jbd2_private(journal_t *journal)
{
	return journal->j_private;
}

tid_t calf_jbd2_transaction_tid(transaction_t *transaction)
{
	return transaction->t_tid;
}

int calf_jbd2_max_txn_buffers(journal_t *journal)
{
	return journal->j_max_transaction_buffers;
}

/* A quarter is left to what else a handle is for, and to blocks with revoke records. */
u32 calf_jbd2_max_handle(journal_t *journal)
{
	u32 most = journal->j_max_transaction_buffers - journal->j_transaction_overhead_buffers;

	return most - most / 4;
}

/* The tid an inode read now may depend on, as ext4's __ext4_iget (C9). */
bool calf_jbd2_last_tids(journal_t *journal, tid_t *tid)
{
	bool live = true;

	read_lock(&journal->j_state_lock);
	if (journal->j_running_transaction)
		*tid = journal->j_running_transaction->t_tid;
	else if (journal->j_committing_transaction)
		*tid = journal->j_committing_transaction->t_tid;
	else {
		*tid = journal->j_commit_sequence;
		live = false;
	}
	read_unlock(&journal->j_state_lock);
	return live;
}

bool calf_jbd2_tid_committed(journal_t *journal, tid_t tid)
{
	return jbd2_transaction_committed(journal, tid);
}

u32 calf_jbd2_total_len(journal_t *journal)
{
	return journal->j_total_len;
}

/* What memory reclaim does, but to the end: it stops when somebody wants the processor. */
void calf_jbd2_forget_written(journal_t *journal)
{
	struct shrink_control sc = { .gfp_mask = GFP_KERNEL, .nr_to_scan = ULONG_MAX };

	while (journal->j_shrinker->scan_objects(journal->j_shrinker, &sc))
		cond_resched();
}

bool calf_jbd2_needs_recovery(journal_t *journal)
{
	return journal->j_superblock->s_start != 0;
}
