// SPDX-License-Identifier: GPL-2.0
#include "calf_bindings.h"

bool calf_file_is_sync(const struct file *file)
{
	return file->f_flags & (O_DSYNC | __O_SYNC);
}
