/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of the `super` area: inlines and macros that bindgen cannot bind. */
#ifndef CALF_HELPERS_SUPER_H
#define CALF_HELPERS_SUPER_H

#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include <linux/types.h>
#include <linux/writeback.h>

static const int CALF_CONST_FS_REQUIRES_DEV = FS_REQUIRES_DEV;
static const unsigned int CALF_CONST_SB_I_STABLE_WRITES = SB_I_STABLE_WRITES;

bool calf_fc_is_reconfigure(const struct fs_context *fc);
void calf_fc_error(struct fs_context *fc, const char *msg);
void calf_fc_warn(struct fs_context *fc, const char *msg);
int calf_fs_parse(struct fs_context *fc, const struct fs_parameter_spec *desc,
		  struct fs_parameter *param);
const char *calf_fs_parameter_string(const struct fs_parameter *param);

struct kmem_cache *calf_inode_cache_create(const char *name, unsigned int size,
					   unsigned int align);
void *calf_inode_cache_alloc(struct super_block *sb, struct kmem_cache *cache);

bool calf_inode_is_new(const struct inode *inode);
void calf_inode_set_aops(struct inode *inode, const struct address_space_operations *aops);
void calf_init_special_inode(struct inode *inode, umode_t mode, u32 rdev);
bool calf_inode_dirty_meta(const struct inode *inode);
bool calf_mapping_dirty(const struct inode *inode);
bool calf_wbc_wait_for_inode(const struct writeback_control *wbc);

void calf_sb_start_intwrite(struct super_block *sb);
void calf_sb_end_intwrite(struct super_block *sb);
void calf_sb_set_uuid(struct super_block *sb, const u8 *uuid);
void calf_sb_set_rdonly(struct super_block *sb);
bool calf_sb_active(const struct super_block *sb);
bool calf_bdev_read_only(struct block_device *bdev);
void calf_kstatfs_set_fsid(struct kstatfs *st, const u8 *uuid);

void calf_seq_puts(struct seq_file *m, const char *s);
void calf_seq_show_option(struct seq_file *m, const char *name, const char *value);

#endif /* CALF_HELPERS_SUPER_H */
