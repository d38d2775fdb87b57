/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What calf binds on top of the kernel crate's own bindings: the headers that
 * rust/bindings/bindings_helper.h leaves out, and calf's C helpers.
 */
#ifndef CALF_BINDINGS_H
#define CALF_BINDINGS_H

#include <linux/blkdev.h>
#include <linux/buffer_head.h>
#include <linux/crc32.h>
#include <linux/debugfs.h>
#include <linux/exportfs.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fileattr.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/iomap.h>
#include <linux/iversion.h>
#include <linux/jbd2.h>
#include <linux/journal-head.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/splice.h>
#include <linux/statfs.h>
#include <linux/writeback.h>

#include "helpers_base.h"
#include "helpers_jbd2.h"
#include "helpers_vfs.h"
#include "helpers_super.h"
#include "helpers_iomap.h"
#include "helpers_dio.h"
#include "helpers_xattr.h"
#include "helpers_lab.h"

#endif /* CALF_BINDINGS_H */
