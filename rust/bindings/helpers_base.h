/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers used by every area: inode and superblock fields, rwsem, memory scopes. */
#ifndef CALF_HELPERS_BASE_H
#define CALF_HELPERS_BASE_H

#include <linux/fs.h>
#include <linux/rwsem.h>
#include <linux/types.h>

static const u64 CALF_CONST_MAX_LFS_FILESIZE = MAX_LFS_FILESIZE;
static const unsigned long CALF_CONST_SB_RDONLY = SB_RDONLY;
static const gfp_t CALF_CONST_GFP_NOFS = GFP_NOFS;
static const gfp_t CALF_CONST_GFP_KERNEL = GFP_KERNEL;
static const gfp_t CALF_CONST_GFP_NOFAIL = GFP_NOFS | __GFP_NOFAIL;

u32 calf_crc32c(u32 seed, const void *data, size_t len);

void calf_init_rwsem(struct rw_semaphore *sem, const char *name, struct lock_class_key *key);
bool calf_rwsem_is_write_held(const struct rw_semaphore *sem);
void calf_down_write_nested(struct rw_semaphore *sem, int subclass);

unsigned int calf_memalloc_nofs_save(void);
void calf_memalloc_nofs_restore(unsigned int flags);
void calf_add_taint_test(void);
void calf_cond_resched(void);
void calf_retry_wait(void);
bool calf_fatal_signal_pending(void);
bool calf_freezing(void);
bool calf_has_journal_handle(void);

loff_t calf_i_size_read(const struct inode *inode);
void calf_i_size_write(struct inode *inode, loff_t size);
unsigned int calf_i_uid_read(const struct inode *inode);
unsigned int calf_i_gid_read(const struct inode *inode);
void calf_i_uid_write(struct inode *inode, unsigned int uid);
void calf_i_gid_write(struct inode *inode, unsigned int gid);
s64 calf_inode_atime_ns(const struct inode *inode);
s64 calf_inode_mtime_ns(const struct inode *inode);
s64 calf_inode_ctime_ns(const struct inode *inode);
void calf_inode_set_times_ns(struct inode *inode, s64 atime, s64 mtime, s64 ctime);
s64 calf_now_ns(struct inode *inode);
void calf_inode_touch(struct inode *inode, bool mtime);
u64 calf_inode_iversion_peek(const struct inode *inode);
void calf_inode_iversion_set(struct inode *inode, u64 v);
void calf_mark_inode_dirty(struct inode *inode);
/* `update_time` of a filesystem whose inodes are marked dirty without waiting for anything. */
int calf_update_time(struct inode *inode, enum fs_update_time type, unsigned int flags);
void calf_mark_inode_dirty_datasync(struct inode *inode);
void calf_set_i_blocks(struct inode *inode, u64 sectors);
u32 calf_new_encode_dev(dev_t dev);
dev_t calf_new_decode_dev(u32 dev);
void calf_inode_lock(struct inode *inode);
void calf_inode_unlock(struct inode *inode);
void calf_inode_lock_shared(struct inode *inode);
void calf_inode_unlock_shared(struct inode *inode);
bool calf_inode_trylock(struct inode *inode);
bool calf_inode_trylock_shared(struct inode *inode);
bool calf_inode_is_locked(struct inode *inode);
void calf_invalidate_lock(struct inode *inode);
#ifdef CALF_LAB
bool calf_invalidate_trylock(struct inode *inode);
#endif
void calf_invalidate_unlock(struct inode *inode);
void calf_invalidate_lock_shared(struct inode *inode);
void calf_invalidate_unlock_shared(struct inode *inode);
bool calf_inode_is_sync(const struct inode *inode);
bool calf_sb_rdonly(const struct super_block *sb);
u64 calf_bdev_nr_bytes(struct block_device *bdev);
unsigned int calf_bdev_logical_block_size(struct block_device *bdev);
bool calf_bdev_unmaps_zeroes(struct block_device *bdev);
struct block_device *calf_sb_bdev(const struct super_block *sb);

#endif /* CALF_HELPERS_BASE_H */
