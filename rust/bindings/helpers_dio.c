// SPDX-License-Identifier: GPL-2.0
#include "calf_bindings.h"

bool calf_file_is_sync(const struct file *file)
{
	return file->f_flags & (O_DSYNC | __O_SYNC);
}

bool calf_inode_is_nosec(const struct inode *inode)
{
	return IS_NOSEC(inode);
}

void *calf_iomap_iter_private(struct iomap *iomap)
{
	return container_of(iomap, struct iomap_iter, iomap)->private;
}
