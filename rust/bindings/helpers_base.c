// SPDX-License-Identifier: GPL-2.0
#include "calf_bindings.h"

#include <linux/freezer.h>
#include <linux/delay.h>
#include <linux/sched/signal.h>

u32 calf_crc32c(u32 seed, const void *data, size_t len)
{
	return crc32c(seed, data, len);
}

void calf_init_rwsem(struct rw_semaphore *sem, const char *name, struct lock_class_key *key)
{
	__init_rwsem(sem, name, key);
}

bool calf_rwsem_is_write_held(const struct rw_semaphore *sem)
{
	/* rwsem.h keeps the writer bit test behind rwsem_assert_held_write(). */
	return atomic_long_read(&sem->count) & 1;
}

void calf_down_write_nested(struct rw_semaphore *sem, int subclass)
{
	down_write_nested(sem, subclass);
}

unsigned int calf_memalloc_nofs_save(void)
{
	return memalloc_nofs_save();
}

void calf_memalloc_nofs_restore(unsigned int flags)
{
	memalloc_nofs_restore(flags);
}

void calf_add_taint_test(void)
{
	add_taint(TAINT_TEST, LOCKDEP_STILL_OK);
}

void calf_cond_resched(void)
{
	cond_resched();
}

void calf_retry_wait(void)
{
	schedule_timeout_uninterruptible(1);
}

bool calf_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

bool calf_freezing(void)
{
	return freezing(current);
}

bool calf_has_journal_handle(void)
{
	return current->journal_info != NULL;
}

loff_t calf_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

void calf_i_size_write(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}

unsigned int calf_i_uid_read(const struct inode *inode)
{
	return i_uid_read(inode);
}

unsigned int calf_i_gid_read(const struct inode *inode)
{
	return i_gid_read(inode);
}

void calf_i_uid_write(struct inode *inode, unsigned int uid)
{
	i_uid_write(inode, uid);
}

void calf_i_gid_write(struct inode *inode, unsigned int gid)
{
	i_gid_write(inode, gid);
}

s64 calf_inode_atime_ns(const struct inode *inode)
{
	struct timespec64 ts = inode_get_atime(inode);

	return timespec64_to_ns(&ts);
}

s64 calf_inode_mtime_ns(const struct inode *inode)
{
	struct timespec64 ts = inode_get_mtime(inode);

	return timespec64_to_ns(&ts);
}

s64 calf_inode_ctime_ns(const struct inode *inode)
{
	struct timespec64 ts = inode_get_ctime(inode);

	return timespec64_to_ns(&ts);
}

void calf_inode_set_times_ns(struct inode *inode, s64 atime, s64 mtime, s64 ctime)
{
	inode_set_atime_to_ts(inode, ns_to_timespec64(atime));
	inode_set_mtime_to_ts(inode, ns_to_timespec64(mtime));
	inode_set_ctime_to_ts(inode, ns_to_timespec64(ctime));
}

s64 calf_now_ns(struct inode *inode)
{
	struct timespec64 ts = current_time(inode);

	return timespec64_to_ns(&ts);
}

void calf_inode_touch(struct inode *inode, bool mtime)
{
	struct timespec64 ts = inode_set_ctime_current(inode);

	if (mtime)
		inode_set_mtime_to_ts(inode, ts);
	inode_inc_iversion(inode);
}

u64 calf_inode_iversion_peek(const struct inode *inode)
{
	return inode_peek_iversion(inode);
}

void calf_inode_iversion_set(struct inode *inode, u64 v)
{
	/* Somebody may have asked before it left memory: the next change counts. */
	inode_set_iversion_queried(inode, v);
}

void calf_mark_inode_dirty(struct inode *inode)
{
	mark_inode_dirty(inode);
}

int calf_update_time(struct inode *inode, enum fs_update_time type, unsigned int flags)
{
	int dirty = inode_update_time(inode, type, flags & ~IOCB_NOWAIT);

	if (dirty > 0)
		__mark_inode_dirty(inode, dirty);
	return min(dirty, 0);
}

void calf_mark_inode_dirty_datasync(struct inode *inode)
{
	__mark_inode_dirty(inode, I_DIRTY_DATASYNC);
}

void calf_set_i_blocks(struct inode *inode, u64 sectors)
{
	inode->i_blocks = sectors;
}

u32 calf_new_encode_dev(dev_t dev)
{
	return new_encode_dev(dev);
}

dev_t calf_new_decode_dev(u32 dev)
{
	return new_decode_dev(dev);
}

void calf_inode_lock(struct inode *inode)
{
	inode_lock(inode);
}

void calf_inode_unlock(struct inode *inode)
{
	inode_unlock(inode);
}

void calf_inode_lock_shared(struct inode *inode)
{
	inode_lock_shared(inode);
}

void calf_inode_unlock_shared(struct inode *inode)
{
	inode_unlock_shared(inode);
}

bool calf_inode_trylock(struct inode *inode)
{
	return inode_trylock(inode);
}

bool calf_inode_trylock_shared(struct inode *inode)
{
	return inode_trylock_shared(inode);
}

bool calf_inode_is_locked(struct inode *inode)
{
	return rwsem_is_locked(&inode->i_rwsem);
}

void calf_invalidate_lock(struct inode *inode)
{
	filemap_invalidate_lock(inode->i_mapping);
}

void calf_invalidate_unlock(struct inode *inode)
{
	filemap_invalidate_unlock(inode->i_mapping);
}

#ifdef CALF_LAB
bool calf_invalidate_trylock(struct inode *inode)
{
	return down_write_trylock(&inode->i_mapping->invalidate_lock);
}
#endif

void calf_invalidate_lock_shared(struct inode *inode)
{
	filemap_invalidate_lock_shared(inode->i_mapping);
}

void calf_invalidate_unlock_shared(struct inode *inode)
{
	filemap_invalidate_unlock_shared(inode->i_mapping);
}

bool calf_inode_is_sync(const struct inode *inode)
{
	return IS_SYNC(inode);
}

bool calf_sb_rdonly(const struct super_block *sb)
{
	return sb_rdonly(sb);
}

u64 calf_bdev_nr_bytes(struct block_device *bdev)
{
	return bdev_nr_bytes(bdev);
}

unsigned int calf_bdev_logical_block_size(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}

bool calf_bdev_unmaps_zeroes(struct block_device *bdev)
{
	return bdev_write_zeroes_unmap_sectors(bdev) > 0;
}

struct block_device *calf_sb_bdev(const struct super_block *sb)
{
	return sb->s_bdev;
}
