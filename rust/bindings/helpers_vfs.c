// SPDX-License-Identifier: GPL-2.0
#include "calf_bindings.h"

#include <linux/filelock.h>

void calf_dget(struct dentry *dentry)
{
	dget(dentry);
}

struct dentry *calf_file_dentry(const struct file *file)
{
	return file->f_path.dentry;
}

bool calf_dir_emit(struct dir_context *ctx, const char *name, int namelen, u64 ino,
		   unsigned int type)
{
	return dir_emit(ctx, name, namelen, ino, type);
}

bool calf_dir_emit_dots(struct file *file, struct dir_context *ctx)
{
	return dir_emit_dots(file, ctx);
}

bool calf_inode_is_dirsync(const struct inode *inode)
{
	return IS_DIRSYNC(inode);
}

unsigned int calf_inode_dma_align(const struct inode *inode)
{
	return bdev_dma_alignment(inode->i_sb->s_bdev) + 1;
}

void calf_inode_inc_iversion(struct inode *inode)
{
	inode_inc_iversion(inode);
}

int calf_finish_open(struct file *file)
{
	return finish_open_simple(file, 0);
}

/* Without FILE_LOCKING generic_setlease() is an inline, so its address is taken here. */
int calf_setlease(struct file *file, int arg, struct file_lease **lease, void **priv)
{
	return generic_setlease(file, arg, lease, priv);
}
