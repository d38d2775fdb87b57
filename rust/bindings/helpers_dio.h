/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of the `dio` area: inlines and macros that bindgen cannot bind. */
#ifndef CALF_HELPERS_DIO_H
#define CALF_HELPERS_DIO_H

#include <linux/bio.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/types.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

static const unsigned long CALF_CONST_SB_NOSEC = SB_NOSEC;
static const u32 CALF_CONST_FALLOC_FL_KEEP_SIZE = FALLOC_FL_KEEP_SIZE;
static const u32 CALF_CONST_FALLOC_FL_PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE;
static const u32 CALF_CONST_FALLOC_FL_UNSHARE_RANGE = FALLOC_FL_UNSHARE_RANGE;
static const u32 CALF_CONST_FALLOC_FL_COLLAPSE_RANGE = FALLOC_FL_COLLAPSE_RANGE;
static const u32 CALF_CONST_FALLOC_FL_INSERT_RANGE = FALLOC_FL_INSERT_RANGE;
static const u32 CALF_CONST_FALLOC_FL_ZERO_RANGE = FALLOC_FL_ZERO_RANGE;
static const u32 CALF_CONST_FALLOC_FL_WRITE_ZEROES = FALLOC_FL_WRITE_ZEROES;

/* What io_uring and AIO need to know of the file operations. */
static const fop_flags_t CALF_CONST_FOP_FLAGS = FOP_BUFFER_RASYNC | FOP_BUFFER_WASYNC |
						FOP_DIO_PARALLEL_WRITE | FOP_DONTCACHE;

/*
 * Bios of direct writes, each in an ioend, as in `iomap_ioend_bioset`, but with a cache for each CPU as in
 * `fs_bio_set`. Of the module as a whole, from `calf_dio_bio_set_init` to `bioset_exit`.
 */
extern struct bio_set calf_dio_bio_set;
int calf_dio_bio_set_init(void);
void calf_dio_bio_set_exit(void);

bool calf_file_is_sync(const struct file *file);
bool calf_inode_is_nosec(const struct inode *inode);
/* `private` of the iteration that @iomap is the destination of. */
void *calf_iomap_iter_private(struct iomap *iomap);
void calf_iov_iter_set_nofault(struct iov_iter *i, bool nofault);
bool calf_iov_iter_is_user(const struct iov_iter *i);
void calf_pagefault_disable(void);
void calf_pagefault_enable(void);
/* `iomap_dio_read_simple` with the begin function of @ops. */
ssize_t calf_iomap_dio_read_simple(struct kiocb *iocb, struct iov_iter *iter,
				   const struct iomap_ops *ops);
int calf_bio_errno(const struct bio *bio);

#endif /* CALF_HELPERS_DIO_H */
