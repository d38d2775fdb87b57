/* SPDX-License-Identifier: GPL-2.0 */
/* What the checks of a laboratory build ask the kernel. */
#ifndef CALF_HELPERS_LAB_H
#define CALF_HELPERS_LAB_H

#ifdef CALF_LAB
#include <linux/fs.h>
#include <linux/rwsem.h>

/* Is the semaphore held exclusively by the current task? */
bool calf_lab_rwsem_is_mine(const struct rw_semaphore *sem);
bool calf_lab_inode_is_mine(const struct inode *inode);
bool calf_lab_invalidate_is_mine(const struct inode *inode);
/* Does anybody hold it, in either way? */
bool calf_lab_invalidate_is_held(const struct inode *inode);

#define CALF_LAB_NOFS	1	/* in a NOFS scope */
#define CALF_LAB_HANDLE	2	/* with a jbd2 handle */
#define CALF_LAB_ATOMIC	4	/* not in a task that may sleep */
#define CALF_LAB_RECLAIM 8	/* in memory reclaim */
unsigned int calf_lab_context(void);

/* Direct I/O under way. */
int calf_lab_dio_count(const struct inode *inode);
/* Bytes [start, end) in the page cache: anything; dirty, under writeback or locked; dirty or under writeback. */
bool calf_lab_has_page(struct inode *inode, loff_t start, loff_t end);
bool calf_lab_is_busy(struct inode *inode, loff_t start, loff_t end);
bool calf_lab_is_dirty(struct inode *inode, loff_t start, loff_t end);
#endif

#endif
