// SPDX-License-Identifier: GPL-2.0

//! The table of switches.

/// Makes enum, names and contracts from one table.
macro_rules! switches {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $contract:literal;)*) => {
        /// A bug that can be brought back.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Switch {
            $($(#[$doc])* $variant,)*
        }

        impl Switch {
            /// All of them, in the order of the table.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in `-o bug=NAME`.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The contract that it breaks, by its id in the catalogue.
            pub(crate) fn contract(self) -> &'static str {
                match self {
                    $(Self::$variant => $contract,)*
                }
            }
        }
    };
}

switches! {
    /// Unshare of a hole: the staging mapping is its own source, and new.
    UnshareSrcmapAliasNew = "unshare_srcmap_alias_new", "C-SHARED-SRC";
    /// Unshare of a hole: the staging mapping is its own source.
    UnshareSrcmapAlias = "unshare_srcmap_alias", "C-SHARED-SRC";
    /// Unshare of a hole: the source is mapped nowhere.
    UnshareSrcmapNulladdr = "unshare_srcmap_nulladdr", "C-SHARED-SRC";
    /// Unshare of a hole: reserved and shared without a source, the mapping of 2021.
    UnshareHoleReserve = "unshare_hole_reserve", "C-UNSHARE-HOLE-NORESV";
    /// Writeback asks again with what it remembers of the first lookup.
    WbRetryStale = "wb_retry_stale", "C-WB-RELOOKUP";
    /// Nobody asks whether a mapping still holds.
    NoIomapValid = "no_iomap_valid", "C-VALID";
    /// The reservation of a stale mapping is left for the next begin.
    EndSkipPunchIfStale = "end_skip_punch_if_stale", "C-STALE-END";
    /// End drops page cache that others made dirty.
    EndTruncatesCache = "end_truncates_cache", "C-NEW-OWNER";
    /// Reservations are punched without `invalidate_lock`.
    PunchNolock = "punch_nolock", "C-PUNCH-LOCK";
    /// The same in the form before 6.2: page cache truncated, then punched.
    PunchNolockLegacy = "punch_nolock_legacy", "C-PUNCH-LOCK";
    /// `invalidate_lock` is taken again by who holds it.
    PunchRelock = "punch_relock", "C-PUNCH-LOCK";
    /// What a partial write of a shared block must keep is not told.
    NoSrcmap = "no_srcmap", "C-SRC-RMW";
    /// A write fault reserves nothing.
    MkwriteNoReserve = "mkwrite_no_reserve", "C-MKWRITE-RESV";
    /// Writeback goes on with the mapping of the previous folio, whatever has changed.
    WbNoRevalidate = "wb_no_revalidate", "C-WB-REVALIDATE";
    /// Writeback takes a mapping that ends before the folio.
    WbMapEndBeforePos = "wb_map_end_before_pos", "C-WB-COVER";
    /// Zeroing skips staged data over a hole.
    ZeroHoleIgnoresCow = "zero_hole_ignores_cow", "C-ZERO-HOLE-DIRTY";
    /// Zeroing writes shared blocks in place.
    ZeroInplaceShared = "zero_inplace_shared", "C-ZERO-FLAGS";
    /// After a short write over shared blocks nothing is taken back.
    PunchWrongFork = "punch_wrong_fork", "C-PUNCH-FORK";
    /// Unshare runs without its locks: the size may shrink meanwhile.
    UnshareNolock = "unshare_nolock", "C-SHARED-SRC";
    /// `punch_nolock` over shared blocks: no space is left when writeback needs it again.
    PunchNolockEnospc = "punch_nolock_enospc", "C-PUNCH-LOCK";
    /// A write that failed leaves its claim behind.
    CowErrorLeavesDelalloc = "cow_error_leaves_delalloc", "C-IOEND-ERROR";
    /// Completion maps what is staged beside the I/O too.
    EndCowRemapsUnwritten = "end_cow_remaps_unwritten", "C-IOEND-COW";
    /// The flags of the previous mapping stay when writeback sets the next one.
    WbStaleFlags = "wb_stale_flags", "C-WB-FRESH";
    /// Reports do not tell that blocks are shared.
    SwapIgnoresShared = "swap_ignores_shared", "C-SWAP";
    /// A clone leaves the old data of its destination in the page cache.
    RemapNoInvalidate = "remap_no_invalidate", "C-REMAP";
    /// `SEEK_DATA` takes a hole for a hole, whatever is staged over it.
    SeekIgnoresCow = "seek_ignores_cow", "C-SEEK-UNWRITTEN";
    /// A writeback error takes the reservations of the next folios too.
    DiscardOffbyone = "discard_offbyone", "C-WB-ERROR-DISCARD";
    /// Zeroing skips preallocated blocks, dirty or not.
    ZeroUnwrittenTrustsMap = "zero_unwritten_trusts_map", "C-ZERO-UNWRITTEN";
    /// Zeroing finds reservations past EOF.
    ZeroPosteofDelalloc = "zero_posteof_delalloc", "C-ZERO-POSTEOF";
    /// Completion makes the size in memory that on disk.
    AppendIsizeFromInode = "append_isize_from_inode", "C-IOEND-APPEND";
    /// A direct write that came back short fails as a whole, silently.
    DioTicketErrWhole = "dio_ticket_err_whole", "C-DIO-PARTIAL";
    /// The ticket of a short direct write is kept for a next call that may never come.
    DioTicketCached = "dio_ticket_cached", "C-DIO-PARTIAL";
    /// A direct write that is resumed forgets what it has done before.
    DioNoDoneBefore = "dio_no_done_before", "C-DIO-DONE-BEFORE";
    /// The size moves before a direct write has written anything.
    DioIsizeInBegin = "dio_isize_in_begin", "C-DIO-ISIZE-BEGIN";
    /// The size moves before what a direct write has written is converted.
    DioEndioIsizeFirst = "dio_endio_isize_first", "C-DIO-ENDIO-ORDER";
    /// A direct write decides by a lookup from before the lock was let go.
    DioCowStaleImap = "dio_cow_stale_imap", "C-DIO-COW-RELOOKUP";
    /// Parts of preallocated blocks are written directly with the lock shared.
    DioUnalignedShared = "dio_unaligned_shared", "C-DIO-UNALIGNED";
    /// A request that must not wait gives up when a part of it is written.
    NowaitMultiMap = "nowait_multi_map", "C-DIO-NOWAIT";
    /// Nothing written, and data left, is taken for the end.
    EnotblkZero = "enotblk_zero", "C-DIO-ENOTBLK";
    /// A direct write is resumed although it does not advance.
    PartialNoProgress = "partial_no_progress", "C-DIO-DONE-BEFORE";
    /// fallocate decides on the size while direct writes are in flight.
    FallocateNoDiowait = "fallocate_no_diowait", "C-FALLOC-DIOWAIT";
}

/// The switches that are on for a mount. Fixed at mount (C12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BugSet(u64);

impl BugSet {
    /// Is the bug on?
    pub(crate) fn has(self, s: Switch) -> bool {
        self.0 & (1 << s as u32) != 0
    }

    /// Switches the bug of this name on; false if there is none of that name.
    pub(crate) fn insert_by_name(&mut self, name: &[u8]) -> bool {
        let found = Switch::ALL.iter().find(|s| s.name().as_bytes() == name);
        if let Some(&s) = found {
            self.0 |= 1 << s as u32;
        }
        found.is_some()
    }

    /// Calls `f` with the name of every bug that is on.
    pub(crate) fn for_each_name(self, mut f: impl FnMut(&str)) {
        for s in Switch::ALL.iter().filter(|s| self.has(**s)) {
            f(s.name());
        }
    }
}

/// Says at load what this module can do.
pub(crate) fn announce() {
    kernel::pr_warn!("laboratory build: bugs can be brought back with -o bug=NAME\n");
    for s in Switch::ALL {
        kernel::pr_info!("bug {} breaks {}\n", s.name(), s.contract());
    }
}
