/* SPDX-License-Identifier: GPL-2.0 */
/* The trace event of iomap_check: one for every report. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM iomap_check

#if !defined(CHECK_EVENTS_H) || defined(TRACE_HEADER_MULTI_READ)
#define CHECK_EVENTS_H

#include <linux/tracepoint.h>

TRACE_EVENT(iomap_check_report,
	TP_PROTO(struct inode *inode, const char *rule, const char *fs, u64 pos, u64 len,
		 unsigned int flags, const char *why),
	TP_ARGS(inode, rule, fs, pos, len, flags, why),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u64, pos)
		__field(u64, len)
		__field(unsigned int, flags)
		__string(rule, rule)
		__string(fs, fs)
		__string(why, why)
	),
	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->ino = inode->i_ino;
		__entry->pos = pos;
		__entry->len = len;
		__entry->flags = flags;
		__assign_str(rule);
		__assign_str(fs);
		__assign_str(why);
	),
	TP_printk("dev %d:%d ino 0x%llx fs %s rule %s pos 0x%llx length 0x%llx flags 0x%x: %s",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino, __get_str(fs),
		  __get_str(rule), __entry->pos, __entry->len, __entry->flags, __get_str(why))
);

#endif /* CHECK_EVENTS_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE check_events
#include <trace/define_trace.h>
