/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers for jbd2 and buffer heads. */
#ifndef CALF_HELPERS_JBD2_H
#define CALF_HELPERS_JBD2_H

#include <linux/buffer_head.h>
#include <linux/jbd2.h>

static const unsigned long CALF_CONST_JBD2_BARRIER = JBD2_BARRIER;

struct buffer_head *calf_bread(struct block_device *bdev, sector_t block, unsigned int size);
void calf_read_ahead(struct block_device *bdev, const u64 *blocks, unsigned int n, unsigned int size);
struct buffer_head *calf_find_buffer(struct block_device *bdev, sector_t block, unsigned int size);
struct buffer_head *calf_find_verified(struct block_device *bdev, sector_t block, unsigned int size);
struct buffer_head *calf_getblk(struct block_device *bdev, sector_t block, unsigned int size);
void calf_get_bh(struct buffer_head *bh);
void calf_brelse(struct buffer_head *bh);
void calf_lock_buffer(struct buffer_head *bh);
void calf_unlock_buffer(struct buffer_head *bh);
bool calf_buffer_uptodate(struct buffer_head *bh);
void calf_mark_buffer_dirty(struct buffer_head *bh);
void calf_set_buffer_uptodate(struct buffer_head *bh);
bool calf_buffer_verified(struct buffer_head *bh);
void calf_set_buffer_verified(struct buffer_head *bh);
void calf_clear_buffer_verified(struct buffer_head *bh);

int calf_jbd2_handle_credits(handle_t *handle);
int calf_jbd2_handle_revokes(handle_t *handle);
tid_t calf_jbd2_handle_tid(handle_t *handle);
void calf_jbd2_handle_sync(handle_t *handle);
void calf_jbd2_abort_handle(handle_t *handle);
bool calf_jbd2_is_aborted(journal_t *journal);
void calf_jbd2_set_barrier(journal_t *journal);
void calf_jbd2_set_region(journal_t *journal);
void calf_jbd2_set_callback(journal_t *journal, void *private_data,
			    void (*cb)(journal_t *, transaction_t *));
void *calf_jbd2_private(journal_t *journal);
tid_t calf_jbd2_transaction_tid(transaction_t *transaction);
int calf_jbd2_max_txn_buffers(journal_t *journal);
u32 calf_jbd2_max_handle(journal_t *journal);
bool calf_jbd2_last_tids(journal_t *journal, tid_t *tid);
bool calf_jbd2_tid_committed(journal_t *journal, tid_t tid);
u32 calf_jbd2_total_len(journal_t *journal);
void calf_jbd2_forget_written(journal_t *journal);
bool calf_jbd2_needs_recovery(journal_t *journal);

#endif /* CALF_HELPERS_JBD2_H */
