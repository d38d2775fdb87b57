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

/// Contracts that no check can see: what each says, and why it is not checked.
pub(super) const UNCHECKED: &[(&str, &str, &str)] = &[
    (
        "C-MAP-INIT",
        "begin fills every field that it means; nothing of the mapping before survives",
        "by construction: `fill` writes every field",
    ),
    (
        "C-END-RET",
        "end returns 0 or an error; the error is lost once a byte was done, and replaces the operation's otherwise",
        "by type: end returns Result, never a positive number",
    ),
    (
        "C-NEXT",
        "an iomap_next finishes the mapping before, asks the core whether to go on, and makes the next one",
        "calf has no iomap_next",
    ),
    (
        "C-CONTAINER-OF",
        "begin may look at the iterator around its mapping only where there is one",
        "by type: only tables that iterate get an Iter",
    ),
    (
        "C-STATUS",
        "the operation's status is an error or 0",
        "a duty of the core",
    ),
    (
        "C-NEW-OWNER",
        "new on a reservation means: made by this begin, which alone may take it back",
        "by type: only the reserving code can make the token; its effects are C-PUNCH-NOTRUNC and C-PUNCH-RANGE",
    ),
    (
        "C-ZERO-TAIL",
        "the tail flag zeroes what follows a write in its block",
        "the flag is not used; C-ANON-WRITE refuses it",
    ),
    (
        "C-BOUNDARY",
        "I/O is not merged over a boundary flag",
        "the flag is not used; C-ANON-WRITE refuses it",
    ),
    (
        "C-PRIVATE-FLAG",
        "the private flag and pointer are the filesystem's and stay until end",
        "the flag is not used; C-ANON-WRITE refuses it",
    ),
    (
        "C-COOKIE-SAMPLE",
        "the cookie is read under the lock hold that the mapping was read under",
        "a sample taken too late is a race that leaves no trace; a stale mapping then shows as C-COOKIE-BUMP",
    ),
    (
        "C-COOKIE-COVER",
        "the cookie covers every map that the answer was made from",
        "by construction: one cookie holds both sequences; C-COOKIE-BUMP sees a change of either",
    ),
    (
        "C-STALE-PROGRESS",
        "a stale mapping is followed by one that holds, sooner or later",
        "a loop that makes no progress is seen from outside: time limits of the tests",
    ),
    (
        "C-WR-ISIZE",
        "the core moves i_size as it copies; the filesystem writes the size down after the data",
        "the core moves i_size; its use on disk is C-IOEND-APPEND",
    ),
    (
        "C-WR-ZERO-GAP",
        "before a write past EOF what lies between is zeroed",
        "what is past EOF on disk is not known at run time; tests read it",
    ),
    (
        "C-WR-EXTEND-FOLIO",
        "when EOF moves up, what was stored past it in its page is zeroed and the page protected again",
        "as C-WR-ZERO-GAP",
    ),
    (
        "C-WR-SHORT",
        "a copy may be short, and counts for nothing in a folio that is not uptodate",
        "a duty of the core",
    ),
    (
        "C-WR-ENOSPC",
        "ENOSPC is told when nothing was written, after the filesystem has tried to make space",
        "a retry that is missing shows as ENOSPC; tests fill the disk",
    ),
    (
        "C-PUNCH-CB",
        "the punch callback removes reservations only, with a folio locked or not, as often as it is called",
        "by construction: one function, it takes the extent lock and removes reservations only",
    ),
    (
        "C-PUNCH-EOF",
        "reservations past EOF go even under dirty folios: nobody will write them",
        "a duty of the core; C-PUNCH-RANGE sees what is left",
    ),
    (
        "C-PUNCH-AOPS",
        "the search for dirty parts of folios needs iomap's is_partially_uptodate",
        "by construction: the address space table",
    ),
    (
        "C-NOWAIT-BUF",
        "a buffered write that may not wait does not sleep and reads no metadata",
        "waiting cannot be seen from inside; the test buffered counts EAGAIN",
    ),
    (
        "C-MKWRITE-NOREVOKE",
        "what a write fault has reserved is not taken back by end",
        "by construction: the table of faults has no end",
    ),
    (
        "C-MKWRITE-SHUTDOWN",
        "a write fault fails on a filesystem that is shut down: its folios may not be uptodate",
        "by construction: the first line of page_mkwrite",
    ),
    (
        "C-MKWRITE-REMAP",
        "write faults on the source of a clone wait while it goes on",
        "the window is held by a lock; the test clone faults while cloning",
    ),
    (
        "C-TRUNC-ORDER",
        "truncate drains direct I/O, zeroes, sets the size, writes back, then logs",
        "an order in one function; crash tests see the effects",
    ),
    (
        "C-PUNCH-HOLE-ORDER",
        "punching drains direct I/O, empties the page cache, unmaps, then zeroes the edges",
        "an order in one function; tests random and fsx see the effects",
    ),
    (
        "C-WB-EOF-ZERO",
        "writeback zeroes the tail of the EOF folio and drops folios past it",
        "a duty of the core",
    ),
    (
        "C-WB-UNWRITTEN-ALLOC",
        "blocks allocated for writeback are not written ones before their data is on disk",
        "calf allocates at completion: C-PIN and C-IOEND-COW stand for it",
    ),
    (
        "C-WB-ERROR-DISCARD",
        "when writeback of a folio fails its reservations go, up to the end of the folio and no further",
        "calf keeps the reservation of what could not be written (C6), there is nothing to discard",
    ),
    (
        "C-WB-ERROR-BLAST",
        "an error ends the pending ioend with it, though that was fine",
        "a property of the core; calf must not fail writeback without need: C-WB-RELOOKUP",
    ),
    (
        "C-WB-SUBMIT",
        "submission looks at the ioend, not at the mapping, which is the next one already",
        "by construction: one trampoline, which looks at the ioend only",
    ),
    (
        "C-WB-HOLE-ACCOUNT",
        "every byte that is not a hole ends writeback exactly once",
        "calf uses the ioends of the core",
    ),
    (
        "C-WB-ZERO-INIT",
        "the writeback context begins zeroed",
        "by construction: one C initialiser",
    ),
    (
        "C-WB-NOFAIL",
        "writeback and completion do not fail for want of memory",
        "memory that is missing is waited for; fault injection sees a failure",
    ),
    (
        "C-IOEND-COW-GONE",
        "completion tolerates blocks that somebody else has mapped meanwhile",
        "calf decides by address (C2) and counts it: counter superseded_completions",
    ),
    (
        "C-IOEND-MERGE",
        "ioends merge only where range, blocks and kind go together",
        "the core merges; a range that was merged wrongly shows as C-IOEND-COW",
    ),
    (
        "C-IOEND-ONCE",
        "an ioend is finished once and not touched afterwards",
        "by type: finishing an ioend consumes it",
    ),
    (
        "C-IOEND-DROPBEHIND",
        "completion in a task is asked for once, not twice",
        "no effect but latency",
    ),
    (
        "C-IOEND-BATCH",
        "long chains of ioends give way to other tasks",
        "soft lockups are the kernel's to report",
    ),
    (
        "C-DIO-ENDIO-RET",
        "end_io returns 0 or an error, also for no bytes at all",
        "by type: end_io returns Result",
    ),
    (
        "C-DIO-FSBLOCK",
        "bios out of place are made of whole blocks",
        "the core splits bios; a half block shows as C-DIO-COW or C-PIN",
    ),
    (
        "C-DIO-FALLBACK-SYNC",
        "what a direct write has put into the page cache is on disk and out of it when the write returns",
        "others may read the range back into the page cache at once",
    ),
    (
        "C-DIO-PARTIAL",
        "what begin made can be cut where the user's memory ended, and undone at zero",
        "what landed is counted by tickets; a part that was not mapped shows as C-DIO-COW",
    ),
    (
        "C-DIO-READ-HOLEFAULT",
        "a direct read copies zeros for holes, which faults under whatever lock is held",
        "a fault under a lock is a deadlock; the test partial reads holes",
    ),
    (
        "C-DIO-ISIZE-BEGIN",
        "a size that was moved in begin goes back when less was written",
        "calf sets the size in end_io only: C-DIO-ENDIO-ORDER",
    ),
    (
        "C-DIO-INVALIDATE",
        "nobody dirties the range of a direct write meanwhile",
        "a duty of the core; who dirties the range meanwhile is free to",
    ),
    (
        "C-DIO-SUBMIT-IO",
        "an own submit_io leads to the core's end of each bio exactly once",
        "by construction: one C function that sets private data and calls the core's",
    ),
    (
        "C-DIO-BOUNCE",
        "who needs stable data bounces direct writes",
        "calf needs no stable buffers",
    ),
    (
        "C-DIO-SIMPLE",
        "begin of short direct reads keeps nothing: there is no end",
        "by type: begin of direct reads takes no state, its table has no end",
    ),
    (
        "C-DIO-FUA",
        "FUA replaces a commit only where no metadata is needed",
        "the same as C-DIRTY",
    ),
    (
        "C-LOCK-2",
        "begin of a fault runs under the folio lock, begin of a write does not",
        "a folio lock has no owner; begin of a fault takes the extent lock only",
    ),
    (
        "C-LOCK-3",
        "completion takes neither i_rwsem nor invalidate_lock, since their holders wait for it",
        "completion runs in a NOFS scope: C-LOCK-ORDER sees it take a lock",
    ),
    (
        "C-LOCK-4",
        "completion of writeback does not wait for direct I/O",
        "waiting for direct I/O in completion is a deadlock; hung tasks are the kernel's to report",
    ),
    (
        "C-FIEMAP-PROGRESS",
        "reports go on where the one before ended",
        "C-MAP-COVER and C-MAP-LEN0 make it certain",
    ),
    (
        "C-SWAP",
        "swap gets blocks that are nobody else's and need no commit",
        "swap activation asks as FIEMAP does: C-REPORT-PURE",
    ),
    (
        "C-BMAP",
        "bmap tells nothing of files that are written out of place",
        "by construction: bmap answers only for files that never had shared blocks",
    ),
    (
        "C-READ-ERR",
        "an error of a read leaves the folio not uptodate",
        "a duty of the core",
    ),
    (
        "C-READ-FINISH",
        "every range of a read folio is finished exactly once",
        "calf uses the core's bios",
    ),
    (
        "C-READ-RACE",
        "blocks are not exchanged under a read: the folio lock and invalidate_lock see to that",
        "what changes blocks takes invalidate_lock, or completes dirty folios; C-REMAP for clones",
    ),
    (
        "C-AOPS",
        "the address space operations are iomap's",
        "by construction: the address space table",
    ),
    (
        "C-LARGE-FOLIO",
        "large folios are allowed only where everything works on ranges",
        "by construction: every callback takes ranges",
    ),
    (
        "C-GETPUT-FOLIO",
        "folios are got locked and put once",
        "calf uses the core's",
    ),
    (
        "C-READ-SYNC-OP",
        "the read before a partial write is synchronous",
        "calf uses the core's",
    ),
    (
        "C-BIOSET",
        "a module's own bios have ended before it goes",
        "calf uses the core's",
    ),
    (
        "C-DONTCACHE",
        "writes that should not stay cached are kicked off at once",
        "no effect but on memory; the test buffered asks for it",
    ),
    (
        "C-STABLE",
        "stable pages are waited for",
        "calf needs no stable pages",
    ),
];
