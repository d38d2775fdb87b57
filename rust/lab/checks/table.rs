// SPDX-License-Identifier: GPL-2.0

//! The table of contracts: what each says, and where it is checked or why it cannot be.
//!
//! `docs/contracts.md` is made from it; the ids are those of the project's iomap contract catalogue.

/// Makes enum, ids and statements from one table.
macro_rules! checks {
    ($($variant:ident = $id:literal, $says:literal, $place:literal;)*) => {
        /// A contract with a check.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Check {
            $(#[doc = $says] #[doc = concat!("Checked at: ", $place, ".")] $variant,)*
        }

        impl Check {
            /// All of them, in the order of the table.
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub(super) const COUNT: usize = Self::ALL.len();

            /// The contract's id.
            pub(super) fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => $id,)*
                }
            }

            /// The contract in one line.
            pub(super) fn says(self) -> &'static str {
                match self {
                    $(Self::$variant => $says,)*
                }
            }
        }
    };
}

checks! {
    MapCover = "C-MAP-COVER", "a mapping holds the byte that was asked for", "begin";
    MapLen0 = "C-MAP-LEN0", "a mapping is at least one block long", "begin, writeback";
    MapTrueEnd = "C-MAP-TRUE-END", "a mapping ends where its extent ends, or before", "begin";
    MapAlign = "C-MAP-ALIGN", "a mapping begins and ends on a block", "begin, writeback";
    MapAddr = "C-MAP-ADDR", "blocks have an address inside the device; a hole and a reservation have none", "begin, writeback";
    MapNoholeWrite = "C-MAP-NOHOLE-WRITE", "a write is never answered with a hole", "begin of writes";
    FlagOwn = "C-FLAG-OWN", "the flags that belong to the core are never set", "begin";
    BeginFail = "C-BEGIN-FAIL", "a begin that fails leaves nothing behind: at the end nothing is reserved, claimed or pinned", "umount";
    EndArgs = "C-END-ARGS", "end is told of a range inside the mapping, and of no more than that written", "end";
    EndAlways = "C-END-ALWAYS", "end comes exactly once for each begin that succeeded", "begin, end, umount";
    NoLockAcross = "C-NO-LOCK-ACROSS", "begin returns without extent lock and without handle", "begin";
    SrcRmw = "C-SRC-RMW", "a write out of place names the written data below it as its source", "begin of writes, zeroing";
    SrcHole = "C-SRC-HOLE", "without data to read the source stays a hole", "begin of writes, zeroing";
    SrcSane = "C-SRC-SANE", "a source holds the byte asked for, is not new and is not the destination", "begin";
    SrcNotForRead = "C-SRC-NOT-FOR-READ", "reads and reports have no source", "begin of reads, reports";
    SharedMeaning = "C-SHARED-MEANING", "a write is marked shared exactly when it goes to the staging map", "begin of writes, zeroing";
    SharedSrc = "C-SHARED-SRC", "unshare answers with shared only over written data below EOF", "begin of unshare";
    UnshareHoleNoresv = "C-UNSHARE-HOLE-NORESV", "unshare reserves nothing over a hole", "begin of unshare";
    NewZero = "C-NEW-ZERO", "blocks that hold data are never called new", "begin";
    Dirty = "C-DIRTY", "a direct write past EOF says that it needs a commit", "begin of direct writes";
    AnonWrite = "C-ANON-WRITE", "no mapping is anonymous: calf has no target that is chosen at submission", "begin, writeback";
    CookieBump = "C-COOKIE-BUMP", "a mapping whose cookie holds is still what the map says", "iomap_valid";
    Valid = "C-VALID", "a mapping whose cookie has changed is not called valid", "iomap_valid";
    StaleEnd = "C-STALE-END", "end takes the unused reservation of a stale mapping back", "end";
    WrPrecheck = "C-WR-PRECHECK", "a buffered write comes with i_rwsem held by its task", "begin of writes";
    PunchRange = "C-PUNCH-RANGE", "end leaves no reservation of its own without a dirty page over it", "end";
    PunchNotrunc = "C-PUNCH-NOTRUNC", "end drops no page that others have made dirty", "end";
    PunchLock = "C-PUNCH-LOCK", "reservations are punched with invalidate_lock held, which is taken once", "punch, invalidate_lock";
    PunchFork = "C-PUNCH-FORK", "the reservation of a write over shared blocks is taken back as well", "end";
    MkwriteResv = "C-MKWRITE-RESV", "a write fault has space for all that it makes dirty", "begin of write faults";
    MkwriteLock = "C-MKWRITE-LOCK", "a write fault comes with invalidate_lock and without i_rwsem", "begin of write faults";
    ZeroFlags = "C-ZERO-FLAGS", "zeroing writes no shared block in place and reserves nothing over holes", "begin of zeroing";
    ZeroUnwritten = "C-ZERO-UNWRITTEN", "zeroing does not skip dirty pages over preallocated blocks", "begin of zeroing";
    ZeroHoleDirty = "C-ZERO-HOLE-DIRTY", "zeroing does not skip dirty pages over staged data", "begin of zeroing";
    ZeroPosteof = "C-ZERO-POSTEOF", "past EOF there is nothing to zero", "begin of zeroing";
    ZeroLock = "C-ZERO-LOCK", "zeroing and unsharing come with i_rwsem and invalidate_lock held by their task", "begin of zeroing, unshare";
    FallocDiowait = "C-FALLOC-DIOWAIT", "fallocate looks at the size when no direct I/O is under way", "fallocate";
    WbCover = "C-WB-COVER", "the mapping of writeback holds the byte that is written", "writeback";
    WbRangeRet = "C-WB-RANGE-RET", "writeback takes at least one byte of a range, and not more than all", "writeback";
    WbFresh = "C-WB-FRESH", "nothing of an earlier mapping is left in that of writeback", "writeback";
    WbType = "C-WB-TYPE", "writeback goes to a hole, to written or to preallocated blocks", "writeback";
    WbHole = "C-WB-HOLE", "writeback drops no data below EOF", "writeback";
    WbRevalidate = "C-WB-REVALIDATE", "writeback goes on with a mapping only while it is true", "writeback";
    WbRelookup = "C-WB-RELOOKUP", "writeback that lost a race looks again and does not fail", "writeback";
    WbCowFirst = "C-WB-COW-FIRST", "writeback prefers the staging map", "writeback";
    WbNoInplaceShared = "C-WB-NO-INPLACE-SHARED", "no shared block is written in place", "writeback, begin of writes";
    WbContext = "C-WB-CONTEXT", "writeback runs in a NOFS scope, without handle and not in reclaim", "writeback";
    IoendCtx = "C-IOEND-CTX", "completion runs where it may sleep", "completion";
    IoendUnwritten = "C-IOEND-UNWRITTEN", "preallocated blocks are written ones when their writeback ends", "completion";
    IoendCow = "C-IOEND-COW", "staged blocks are mapped when their writeback ends, and none that was not written", "completion";
    IoendError = "C-IOEND-ERROR", "after an error no claim of the I/O is left", "completion";
    IoendAppend = "C-IOEND-APPEND", "the size on disk moves no further than the data", "completion";
    Pin = "C-PIN", "a staged block under I/O is pinned until it is mapped", "completion, begin of direct writes";
    DioEndioOrder = "C-DIO-ENDIO-ORDER", "the data of a direct write is mapped before its size is set, both before end_io returns", "end of direct writes";
    DioEndioCtx = "C-DIO-ENDIO-CTX", "end_io touches metadata only where it may sleep", "end of direct writes";
    DioUnwritten = "C-DIO-UNWRITTEN", "preallocated blocks are written ones when a direct write ends", "end of direct writes";
    DioCow = "C-DIO-COW", "a direct write out of place goes to claimed blocks, which are mapped when it ends", "begin and end of direct writes";
    DioCowRelookup = "C-DIO-COW-RELOOKUP", "a direct write in place goes to the file's own blocks that nobody shares", "begin of direct writes";
    DioDelalloc = "C-DIO-DELALLOC", "direct I/O never sees a reservation", "begin of direct I/O";
    DioUnaligned = "C-DIO-UNALIGNED", "a direct write of part of a block that needs zeroing is alone", "begin of direct writes";
    DioOverwriteOnly = "C-DIO-OVERWRITE-ONLY", "an overwrite-only request is answered for all of it, with written blocks", "begin of direct writes";
    DioUnalignedCow = "C-DIO-UNALIGNED-COW", "part of a block is never written directly out of place", "begin of direct writes";
    DioEnotblk = "C-DIO-ENOTBLK", "a direct write that got nowhere is not reported as done", "direct write";
    DioDoneBefore = "C-DIO-DONE-BEFORE", "a round of direct I/O counts on from the one before, and makes progress", "direct I/O";
    DioNowait = "C-DIO-NOWAIT", "direct I/O that may not wait gets one mapping for all of it", "begin of direct I/O";
    DioSerialise = "C-DIO-SERIALISE", "no block is unmapped while direct I/O is under way", "unmapping";
    DioAtomic = "C-DIO-ATOMIC", "an atomic write goes out of place as a whole", "begin of direct writes";
    LockOrder = "C-LOCK-ORDER", "i_rwsem and invalidate_lock come before handles, extent locks and completion", "taking a lock";
    Lock1 = "C-LOCK-1", "page cache is neither flushed nor dropped under a handle or the extent lock", "flushing, truncating";
    Lock5 = "C-LOCK-5", "a clone holds the locks of both files", "clone";
    ReportPure = "C-REPORT-PURE", "a report says what is there: type, address, shared or not", "begin of reports";
    SeekUnwritten = "C-SEEK-UNWRITTEN", "seek does not call a hole what has staged data", "begin of seeks";
    ReadZero = "C-READ-ZERO", "a read is told of a hole only where there is no data", "begin of reads";
    Inline = "C-INLINE", "no mapping is inline: calf has no inline data", "begin";
    Remap = "C-REMAP", "the destination of a clone is out of the page cache and not staged", "clone";
}

/// Contracts that no check can see, and why.
pub(super) const UNCHECKED: &[(&str, &str)] = &[
    ("C-MAP-INIT", "by construction: `fill` writes every field"),
    ("C-END-RET", "by type: end returns Result, never a positive number"),
    ("C-NEXT", "calf has no iomap_next"),
    ("C-CONTAINER-OF", "by type: only tables that iterate get an Iter"),
    ("C-STATUS", "a duty of the core"),
    ("C-NEW-OWNER", "by type: only the reserving code can make the token; its effects are C-PUNCH-NOTRUNC and C-PUNCH-RANGE"),
    ("C-ZERO-TAIL", "the flag is not used; C-ANON-WRITE refuses it"),
    ("C-BOUNDARY", "the flag is not used; C-ANON-WRITE refuses it"),
    ("C-PRIVATE-FLAG", "the flag is not used; C-ANON-WRITE refuses it"),
    ("C-COOKIE-SAMPLE", "a sample taken too late is a race that leaves no trace; a stale mapping then shows as C-COOKIE-BUMP"),
    ("C-COOKIE-COVER", "by construction: one cookie holds both sequences; C-COOKIE-BUMP sees a change of either"),
    ("C-STALE-PROGRESS", "a loop that makes no progress is seen from outside: time limits of the tests"),
    ("C-WR-ISIZE", "the core moves i_size; its use on disk is C-IOEND-APPEND"),
    ("C-WR-ZERO-GAP", "what is past EOF on disk is not known at run time; tests read it"),
    ("C-WR-EXTEND-FOLIO", "as C-WR-ZERO-GAP"),
    ("C-WR-SHORT", "a duty of the core"),
    ("C-WR-ENOSPC", "a retry that is missing shows as ENOSPC; tests fill the disk"),
    ("C-PUNCH-CB", "by construction: one function, it takes the extent lock and removes reservations only"),
    ("C-PUNCH-EOF", "a duty of the core; C-PUNCH-RANGE sees what is left"),
    ("C-PUNCH-AOPS", "by construction: the address space table"),
    ("C-NOWAIT-BUF", "waiting cannot be seen from inside; the test buffered counts EAGAIN"),
    ("C-MKWRITE-NOREVOKE", "by construction: the table of faults has no end"),
    ("C-MKWRITE-SHUTDOWN", "by construction: the first line of page_mkwrite"),
    ("C-MKWRITE-REMAP", "the window is held by a lock; the test clone faults while cloning"),
    ("C-TRUNC-ORDER", "an order in one function; crash tests see the effects"),
    ("C-PUNCH-HOLE-ORDER", "an order in one function; tests data and fsx see the effects"),
    ("C-WB-EOF-ZERO", "a duty of the core"),
    ("C-WB-UNWRITTEN-ALLOC", "calf allocates at completion: C-PIN and C-IOEND-COW stand for it"),
    ("C-WB-ERROR-DISCARD", "calf keeps the reservation of what could not be written (C6), there is nothing to discard"),
    ("C-WB-ERROR-BLAST", "a property of the core; calf must not fail writeback without need: C-WB-RELOOKUP"),
    ("C-WB-SUBMIT", "by construction: one trampoline, which looks at the ioend only"),
    ("C-WB-HOLE-ACCOUNT", "calf uses the ioends of the core"),
    ("C-WB-ZERO-INIT", "by construction: one C initialiser"),
    ("C-WB-NOFAIL", "memory that is missing is waited for; fault injection sees a failure"),
    ("C-IOEND-COW-GONE", "calf decides by address (C2) and counts it: counter superseded_completions"),
    ("C-IOEND-MERGE", "the core merges; a range that was merged wrongly shows as C-IOEND-COW"),
    ("C-IOEND-ONCE", "by type: finishing an ioend consumes it"),
    ("C-IOEND-DROPBEHIND", "no effect but latency"),
    ("C-IOEND-BATCH", "soft lockups are the kernel's to report"),
    ("C-DIO-ENDIO-RET", "by type: end_io returns Result"),
    ("C-DIO-FSBLOCK", "the core splits bios; a half block shows as C-DIO-COW or C-PIN"),
    ("C-DIO-FALLBACK-SYNC", "others may read the range back into the page cache at once"),
    ("C-DIO-PARTIAL", "what landed is counted by tickets; a part that was not mapped shows as C-DIO-COW"),
    ("C-DIO-READ-HOLEFAULT", "a fault under a lock is a deadlock; the test partial reads holes"),
    ("C-DIO-ISIZE-BEGIN", "calf sets the size in end_io only: C-DIO-ENDIO-ORDER"),
    ("C-DIO-INVALIDATE", "a duty of the core; who dirties the range meanwhile is free to"),
    ("C-DIO-SUBMIT-IO", "by construction: one C function that sets private data and calls the core's"),
    ("C-DIO-BOUNCE", "calf needs no stable buffers"),
    ("C-DIO-SIMPLE", "by type: begin of direct reads takes no state, its table has no end"),
    ("C-DIO-FUA", "the same as C-DIRTY"),
    ("C-LOCK-2", "a folio lock has no owner; begin of a fault takes the extent lock only"),
    ("C-LOCK-3", "completion runs in a NOFS scope: C-LOCK-ORDER sees it take a lock"),
    ("C-LOCK-4", "waiting for direct I/O in completion is a deadlock; hung tasks are the kernel's to report"),
    ("C-FIEMAP-PROGRESS", "C-MAP-COVER and C-MAP-LEN0 make it certain"),
    ("C-SWAP", "swap activation asks as FIEMAP does: C-REPORT-PURE"),
    ("C-BMAP", "calf has no bmap"),
    ("C-READ-ERR", "a duty of the core"),
    ("C-READ-FINISH", "calf uses the core's bios"),
    ("C-READ-RACE", "what changes blocks takes invalidate_lock, or completes dirty folios; C-REMAP for clones"),
    ("C-AOPS", "by construction: the address space table"),
    ("C-LARGE-FOLIO", "by construction: every callback takes ranges"),
    ("C-GETPUT-FOLIO", "calf uses the core's"),
    ("C-READ-SYNC-OP", "calf uses the core's"),
    ("C-BIOSET", "calf uses the core's"),
    ("C-DONTCACHE", "no effect but on memory; the test buffered asks for it"),
    ("C-STABLE", "calf needs no stable pages"),
];
