/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of the `super` area: inlines and macros that bindgen cannot bind. */
#ifndef CALF_HELPERS_SUPER_H
#define CALF_HELPERS_SUPER_H

#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <linux/writeback.h>

static const int CALF_CONST_FS_FLAGS = FS_REQUIRES_DEV | FS_ALLOW_IDMAP | FS_MGTIME;
static const unsigned long CALF_CONST_SB_I_VERSION = SB_I_VERSION;

/* A function that runs on a workqueue of its own each time it has been woken. */
struct calf_worker {
	struct work_struct work;
	struct workqueue_struct *wq;
	void (*run)(void *arg);
	void *arg;
};

struct calf_worker *calf_worker_new(const char *name, void (*run)(void *arg), void *arg);
void calf_worker_wake(struct calf_worker *w);
/* Waits for what was woken. */
void calf_worker_free(struct calf_worker *w);

bool calf_fc_is_reconfigure(const struct fs_context *fc);
void calf_fc_error(struct fs_context *fc, const char *msg);
int calf_fs_parse(struct fs_context *fc, const struct fs_parameter_spec *desc,
		  struct fs_parameter *param);
const char *calf_fs_parameter_string(const struct fs_parameter *param);

struct kmem_cache *calf_inode_cache_create(const char *name, unsigned int size,
					   unsigned int align);
void *calf_inode_cache_alloc(struct super_block *sb, struct kmem_cache *cache);

bool calf_inode_is_new(const struct inode *inode);
bool calf_inode_may_be_unlogged(struct inode *inode);
void calf_init_special_inode(struct inode *inode, umode_t mode, u32 rdev);
bool calf_wbc_wait_for_inode(const struct writeback_control *wbc);

bool calf_sb_is_dying(struct super_block *sb);
void calf_sb_start_intwrite(struct super_block *sb);
bool calf_sb_start_intwrite_trylock(struct super_block *sb);
void calf_sb_end_intwrite(struct super_block *sb);
void calf_sb_set_wb_err(struct super_block *sb, int err);
void calf_sb_set_uuid(struct super_block *sb, const u8 *uuid);
bool calf_capable_sys_admin(void);
bool calf_has_sys_admin(void);
bool calf_bdev_read_only(struct block_device *bdev);
/* 0 when the device cannot discard. */
unsigned int calf_bdev_discard_granularity(struct block_device *bdev);
u32 calf_bdev_encoded_number(struct block_device *bdev);
void calf_kstatfs_set_fsid(struct kstatfs *st, const u8 *uuid);


#endif /* CALF_HELPERS_SUPER_H */
