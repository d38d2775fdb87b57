// SPDX-License-Identifier: GPL-2.0
#include "calf_bindings.h"

struct bio_set calf_dio_bio_set;

int calf_dio_bio_set_init(void)
{
	return bioset_init(&calf_dio_bio_set, BIO_POOL_SIZE, offsetof(struct iomap_ioend, io_bio),
			   BIOSET_NEED_BVECS | BIOSET_PERCPU_CACHE);
}

void calf_dio_bio_set_exit(void)
{
	bioset_exit(&calf_dio_bio_set);
}

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

void calf_iov_iter_set_nofault(struct iov_iter *i, bool nofault)
{
	i->nofault = nofault;
}

bool calf_iov_iter_is_user(const struct iov_iter *i)
{
	return user_backed_iter(i);
}

void calf_pagefault_disable(void)
{
	pagefault_disable();
}

void calf_pagefault_enable(void)
{
	pagefault_enable();
}

ssize_t calf_iomap_dio_read_simple(struct kiocb *iocb, struct iov_iter *iter,
				   const struct iomap_ops *ops)
{
	return iomap_dio_read_simple(iocb, iter, ops->iomap_begin);
}

int calf_bio_errno(const struct bio *bio)
{
	return blk_status_to_errno(bio->bi_status);
}
