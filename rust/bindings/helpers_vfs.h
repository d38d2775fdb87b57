/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of the `vfs` area: inlines and macros that bindgen cannot bind. */
#ifndef CALF_HELPERS_VFS_H
#define CALF_HELPERS_VFS_H

#include <linux/fs.h>
#include <linux/types.h>

struct file_lease;

void calf_dget(struct dentry *dentry);
struct dentry *calf_file_dentry(const struct file *file);
bool calf_dir_emit(struct dir_context *ctx, const char *name, int namelen, u64 ino,
		   unsigned int type);
bool calf_dir_emit_dots(struct file *file, struct dir_context *ctx);
bool calf_inode_is_dirsync(const struct inode *inode);
unsigned int calf_inode_dma_align(const struct inode *inode);
void calf_inode_inc_iversion(struct inode *inode);
int calf_finish_open(struct file *file);
int calf_setlease(struct file *file, int arg, struct file_lease **lease, void **priv);

#endif /* CALF_HELPERS_VFS_H */
