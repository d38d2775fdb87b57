// SPDX-License-Identifier: GPL-2.0
#include "calf_bindings.h"

static void calf_worker_run(struct work_struct *work)
{
	struct calf_worker *w = container_of(work, struct calf_worker, work);

	w->run(w->arg);
}

struct calf_worker *calf_worker_new(const char *name, void (*run)(void *arg), void *arg)
{
	struct calf_worker *w = kzalloc_obj(*w);

	if (!w)
		return NULL;
	w->wq = calf_alloc_workqueue(name);
	if (!w->wq) {
		kfree(w);
		return NULL;
	}
	INIT_WORK(&w->work, calf_worker_run);
	w->run = run;
	w->arg = arg;
	return w;
}

void calf_worker_wake(struct calf_worker *w)
{
	queue_work(w->wq, &w->work);
}

void calf_worker_free(struct calf_worker *w)
{
	destroy_workqueue(w->wq);
	kfree(w);
}

bool calf_fc_is_reconfigure(const struct fs_context *fc)
{
	return fc->purpose == FS_CONTEXT_FOR_RECONFIGURE;
}

void calf_fc_error(struct fs_context *fc, const char *msg)
{
	errorfc(fc, "%s", msg);
}

int calf_fs_parse(struct fs_context *fc, const struct fs_parameter_spec *desc,
		  struct fs_parameter *param)
{
	struct fs_parse_result result;

	return fs_parse(fc, desc, param, &result);
}

const char *calf_fs_parameter_string(const struct fs_parameter *param)
{
	return param->type == fs_value_is_string ? param->string : NULL;
}

/* The inode is the first member of the object, whatever follows it. */
static void calf_inode_ctor(void *object)
{
	inode_init_once(object);
}

struct kmem_cache *calf_inode_cache_create(const char *name, unsigned int size,
					   unsigned int align)
{
	return kmem_cache_create(name, size, align,
				 SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT,
				 calf_inode_ctor);
}

void *calf_inode_cache_alloc(struct super_block *sb, struct kmem_cache *cache)
{
	return alloc_inode_sb(sb, cache, GFP_NOFS);
}

bool calf_inode_is_new(const struct inode *inode)
{
	return inode_state_read_once((struct inode *)inode) & I_NEW;
}

/* Somebody is in ->write_inode, or the inode has to go there. */
bool calf_inode_may_be_unlogged(struct inode *inode)
{
	bool may;

	spin_lock(&inode->i_lock);
	may = inode_state_read(inode) & (I_SYNC | I_DIRTY_SYNC | I_DIRTY_DATASYNC);
	spin_unlock(&inode->i_lock);
	return may;
}

void calf_init_special_inode(struct inode *inode, umode_t mode, u32 rdev)
{
	init_special_inode(inode, mode, new_decode_dev(rdev));
}

/* sync(2) commits once for all inodes in sync_fs; everybody else waits here. */
bool calf_wbc_wait_for_inode(const struct writeback_control *wbc)
{
	return wbc->sync_mode == WB_SYNC_ALL && !wbc->for_sync;
}

/* The last reference was dropped: ->kill_sb is running. */
bool calf_sb_is_dying(struct super_block *sb)
{
	return !atomic_read(&sb->s_active);
}

void calf_sb_start_intwrite(struct super_block *sb)
{
	sb_start_intwrite(sb);
}

bool calf_sb_start_intwrite_trylock(struct super_block *sb)
{
	return sb_start_intwrite_trylock(sb);
}

void calf_sb_end_intwrite(struct super_block *sb)
{
	sb_end_intwrite(sb);
}

void calf_sb_set_wb_err(struct super_block *sb, int err)
{
	errseq_set(&sb->s_wb_err, err);
}

void calf_sb_set_uuid(struct super_block *sb, const u8 *uuid)
{
	super_set_uuid(sb, uuid, 16);
	super_set_sysfs_name_bdev(sb);
}

bool calf_capable_sys_admin(void)
{
	return capable(CAP_SYS_ADMIN);
}

bool calf_has_sys_admin(void)
{
	return ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
}

bool calf_bdev_read_only(struct block_device *bdev)
{
	return bdev_read_only(bdev);
}

void calf_kstatfs_set_fsid(struct kstatfs *st, const u8 *uuid)
{
	st->f_fsid = uuid_to_fsid((__u8 *)uuid);
}

unsigned int calf_bdev_discard_granularity(struct block_device *bdev)
{
	return bdev_max_discard_sectors(bdev) ? bdev_discard_granularity(bdev) : 0;
}

u32 calf_bdev_encoded_number(struct block_device *bdev)
{
	return new_encode_dev(bdev->bd_dev);
}
