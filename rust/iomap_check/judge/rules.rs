// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The table of rules.

use core::fmt;

/// How bad a violation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Wrong on any filesystem.
    Error,
    /// Wrong, or a race or habit that a person should look at.
    Warn,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warn => "warn",
        })
    }
}

/// Where a rule looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Tracepoint `iomap_iter_dstmap`: a mapping was made.
    Begin,
    /// Tracepoint `iomap_iter`: an operation comes back for the next mapping.
    Iter,
    /// Tracepoint `iomap_add_to_ioend`: writeback of a range.
    Writeback,
    /// Tracepoint `filemap_set_wb_err`: writeback failed.
    Error,
    /// kprobes.
    Probe,
    /// What was remembered of earlier events; only while the oracle is on, for directed tests.
    Oracle,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Begin => "begin",
            Self::Iter => "iter",
            Self::Writeback => "writeback",
            Self::Error => "wberror",
            Self::Probe => "kprobe",
            Self::Oracle => "oracle",
        })
    }
}

/// Makes enum and table from one list.
macro_rules! rules {
    ($($variant:ident = $severity:ident, $point:ident, $contract:literal, $text:literal;)*) => {
        /// A rule. The names are those of the catalogue of invariants (G1 ...).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $text] $variant,)*
        }

        impl Rule {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many.
            pub const COUNT: usize = Self::ALL.len();

            /// Name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// Name, for C.
            pub fn c_name(self) -> &'static core::ffi::CStr {
                match self {
                    $(Self::$variant => {
                        const NAME: &core::ffi::CStr = match core::ffi::CStr::from_bytes_with_nul(
                            concat!(stringify!($variant), "\0").as_bytes(),
                        ) {
                            Ok(name) => name,
                            Err(_) => c"?",
                        };
                        NAME
                    })*
                }
            }

            /// How bad a violation is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// Where it looks.
            pub fn point(self) -> Point {
                match self { $(Self::$variant => Point::$point,)* }
            }

            /// The contracts that it checks.
            pub fn contract(self) -> &'static str {
                match self { $(Self::$variant => $contract,)* }
            }

            /// What must hold.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

rules! {
    G1 = Error, Begin, "C-MAP-COVER C-MAP-LEN0",
        "A mapping covers the position that was asked for, is not empty, and ends where a file can end.";
    G2 = Error, Begin, "C-FLAG-OWN",
        "A mapping has a known type, and none of the flags that belong to the core.";
    G3 = Warn, Begin, "C-MAP-ADDR C-MAP-TRUE-END",
        "A mapping with blocks names a device and an aligned address inside it.";
    G4 = Warn, Begin, "C-MAP-ADDR",
        "A hole or reservation has no address.";
    G5 = Warn, Begin, "C-MAP-ALIGN",
        "A mapping begins and ends at block boundaries, or ends at the end of the file.";
    G6 = Warn, Begin, "C-MAP-NOHOLE-WRITE",
        "The answer to a write is not a hole.";
    G7 = Warn, Begin, "C-SHARED-SRC C-UNSHARE-HOLE-NORESV",
        "Unshare of shared blocks has a source with data inside the file; unshare of anything else reserves nothing.";
    G8 = Error, Begin, "C-SRC-SANE",
        "A source covers the position, is neither new nor stale, and lies elsewhere than the destination.";
    G9 = Error, Begin, "C-SRC-NOT-FOR-READ C-NEW-ZERO",
        "The answer to a read has no source and is not new.";
    G10 = Warn, Begin, "C-REPORT-PURE C-FIEMAP-PROGRESS",
        "The answer to a report is not new, and begins where the one before it ended.";
    G11 = Warn, Begin, "C-ZERO-POSTEOF",
        "Zeroing past the last block of the file finds nothing that would be written.";
    G12 = Warn, Begin, "C-DIO-OVERWRITE-ONLY C-DIO-ATOMIC",
        "A write that must not allocate gets blocks in place for all of it; an atomic one gets one aligned extent.";
    G13 = Warn, Begin, "C-DIRTY",
        "A synchronous direct write past the end of the file gets a mapping that says that metadata is dirty.";
    G14 = Error, Writeback, "C-WB-COVER C-WB-TYPE",
        "Writeback uses a mapping that covers the position, of a type with or without blocks, inside the device.";
    G15 = Warn, Writeback, "C-WB-HOLE",
        "Writeback of dirty data inside the file does not find a hole.";
    G16 = Warn, Probe, "C-PUNCH-RANGE C-STALE-END C-NEW-OWNER",
        "What a short write reserved is given back before the iteration goes on.";
    G17 = Error, Probe, "C-PUNCH-LOCK",
        "Reservations are given back with invalidate_lock held for writing.";
    G17b = Warn, Probe, "C-MKWRITE-LOCK C-ZERO-LOCK C-LOCK-ORDER",
        "Unshare, zeroing, write faults and buffered writes hold i_rwsem and invalidate_lock as they should.";
    G18 = Warn, Iter, "C-STALE-PROGRESS C-MAP-LEN0",
        "An operation advances; not a thousand mappings for one position.";
    G19 = Warn, Iter, "C-MAP-INIT",
        "Nobody changes a mapping while it is in use, apart from the core's own flags.";
    G20 = Warn, Oracle, "C-DIO-PARTIAL C-DIO-ENDIO-ORDER",
        "What a direct write has written has blocks with data afterwards, and before the file grows over it.";
    G21 = Warn, Oracle, "C-IOEND-COW C-IOEND-UNWRITTEN",
        "What was written back to staged or unwritten blocks is found there afterwards; a hole stays one until it sees I/O.";
    G22 = Warn, Oracle, "C-DIO-COW-RELOOKUP C-WB-REVALIDATE C-ZERO-FLAGS",
        "No write in place goes to a block that another file, or another place of the file, was seen to have.";
    G23 = Warn, Oracle, "C-DIO-DONE-BEFORE",
        "A direct write that is resumed tells how much was done before, and goes on there.";
    G26 = Warn, Begin, "C-DIO-NOWAIT",
        "A direct write that must not wait gets one mapping for all of it.";
    G28 = Warn, Error, "C-WB-RELOOKUP C-WB-ERROR-BLAST",
        "Writeback loses data for lack of space or for the device's fault only, never for EAGAIN and the like.";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
