// SPDX-License-Identifier: GPL-2.0

//! Mappings: one enum an operation, and the one function that fills `struct iomap`.
//!
//! C header: [`include/linux/iomap.h`](srctree/include/linux/iomap.h)
//!
//! Each operation answers with its own enum, which offers only what the iomap contract allows
//! there: a write has no hole (C-MAP-NOHOLE-WRITE), a hole has no address (C-MAP-ADDR), a staged
//! write names its source or says that there is none (C-SRC-RMW, C-SRC-HOLE), the source of an
//! unshare is always mapped (C-SHARED-SRC), and a *new* reservation is the token of the code that
//! made it (C-NEW-OWNER). The enums become a [`Mapping`], and `fill` writes the C struct.

use crate::bindings;
use crate::kapi::iomap_dio::Ticket;
use core::num::NonZeroU64;
use kernel::sync::Arc;

/// `IOMAP_NULL_ADDR`, whose C value `-1ULL` bindgen takes for an `i32`.
const NULL_ADDR: u64 = u64::MAX;

/// A non-empty byte range of a file that ends at or below 2^63. That is one more than `i64::MAX`, the
/// largest size of a file: its last block is mapped as a whole, for a folio is written as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u64,
    len: NonZeroU64,
}

impl Span {
    /// The range `[start, start + len)`; none if it is empty or too large.
    pub fn new(start: u64, len: u64) -> Option<Self> {
        let len = NonZeroU64::new(len)?;
        let end = start.checked_add(len.get())?;
        (end <= 1 << 63).then_some(Self { start, len })
    }

    /// First byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// Bytes, at least one.
    pub fn len(self) -> u64 {
        self.len.get()
    }

    /// One past the last byte.
    pub fn end(self) -> u64 {
        // NO-OVERFLOW: checked by `new`.
        self.start + self.len.get()
    }
}

/// A file range and the byte address on the device where its data is or will be.
///
/// # Invariants
///
/// `addr + span.len()` does not overflow; so `addr` is not `IOMAP_NULL_ADDR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    span: Span,
    addr: u64,
}

impl Run {
    /// Data of `span` at byte address `addr`; none if the addresses overflow.
    pub fn new(span: Span, addr: u64) -> Option<Self> {
        addr.checked_add(span.len())?;
        // INVARIANT: checked above.
        Some(Self { span, addr })
    }

    /// The file range.
    pub fn span(self) -> Span {
        self.span
    }

    /// Byte address of the first byte.
    pub fn addr(self) -> u64 {
        self.addr
    }
}

/// Where the bytes that a write does not replace come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// There are none: the rest of the block is zero (C-SRC-HOLE).
    None,
    /// From written blocks (C-SRC-RMW). Never new, never the destination (C-SRC-SANE).
    Mapped(Run),
}

/// The proof that its holder has just made a reservation: a type of the filesystem's reserving
/// code, which nobody else can build.
pub trait Reserved {
    /// What was reserved.
    fn span(&self) -> Span;
}

/// A reservation that a write goes to.
#[derive(Debug)]
pub enum Reservation<N> {
    /// It existed before; only its maker may take it back.
    Found(Span),
    /// Made by this very begin (C-NEW-OWNER).
    New(N),
}

impl<N: Reserved> Reservation<N> {
    fn lower(&self) -> Side {
        match self {
            Self::Found(span) => Side::new(Kind::Delalloc, *span, bindings::IOMAP_F_SHARED),
            Self::New(token) => Side::new(
                Kind::Delalloc,
                token.span(),
                bindings::IOMAP_F_SHARED | bindings::IOMAP_F_NEW,
            ),
        }
    }
}

/// The proof that a batch of dirty folios was collected for this iteration.
#[derive(Debug)]
pub struct FolioBatch(pub(super) u32);

/// Answer to a read, buffered or direct. There is no source (C-SRC-NOT-FOR-READ).
#[derive(Debug)]
pub enum ReadMap {
    /// Reads as zeros.
    Hole(Span),
    /// On disk.
    Mapped(Run),
    /// Allocated, reads as zeros.
    Unwritten(Run),
}

/// Answer to a buffered write or a write fault.
#[derive(Debug)]
pub enum WriteMap<N> {
    /// Overwrites blocks that nobody shares.
    InPlace(Run),
    /// Fills preallocated blocks.
    Unwritten(Run),
    /// Goes to the staging map. Whatever the state there, page cache operations see a reservation
    /// without an address (C3).
    Staged {
        /// The reservation.
        to: Reservation<N>,
        /// The old bytes.
        source: Source,
    },
}

/// Answer to a zeroing operation.
#[derive(Debug)]
pub enum ZeroMap<N> {
    /// Zero already.
    Hole(Span),
    /// Zeroed in place.
    InPlace(Run),
    /// Zero on disk; the dirty folios above it, if a batch is given, are not.
    Unwritten {
        /// The blocks.
        run: Run,
        /// The folios to zero (C-ZERO-UNWRITTEN).
        batch: Option<FolioBatch>,
    },
    /// Written data that is replaced out of place.
    StagedOver {
        /// The reservation.
        to: Reservation<N>,
        /// The written data.
        source: Run,
    },
    /// Staged data without written data below: only the folios of the batch need zeroing (C4).
    StagedDirty {
        /// The existing reservation.
        span: Span,
        /// The folios.
        batch: FolioBatch,
    },
    /// Anything a bug switch likes to say.
    #[cfg(calf_lab)]
    Lab(LabMap),
}

/// Answer to an unshare operation.
#[derive(Debug)]
pub enum UnshareMap<N> {
    /// No written data: nothing to copy, nothing is reserved (C-UNSHARE-HOLE-NORESV).
    Skip(Span),
    /// Written and not shared.
    Unshared(Run),
    /// Shared: copied to the reservation.
    Staged {
        /// The reservation.
        to: Reservation<N>,
        /// The shared data (C-SHARED-SRC).
        source: Run,
    },
    /// Anything a bug switch likes to say.
    #[cfg(calf_lab)]
    Lab(LabMap),
}

/// Answer to a direct write. Never a hole, never a reservation (C-DIO-DELALLOC).
pub enum DirectWriteMap {
    /// Overwrites blocks that nobody shares.
    InPlace(Run),
    /// Fills preallocated blocks; converted by `end_io` (C-DIO-UNWRITTEN).
    Unwritten(Run),
    /// Goes to claimed blocks; mapped by `end_io` (C-DIO-COW). The ticket tells what became of it.
    Staged(Run, Arc<Ticket>),
}

/// Answer to FIEMAP and swap activation.
#[derive(Debug)]
pub enum ReportMap {
    /// Nothing there.
    Hole(Span),
    /// Only a reservation.
    Delalloc(Span),
    /// Preallocated.
    Unwritten(Run),
    /// Data, `shared` with another owner or not.
    Mapped {
        /// The data.
        run: Run,
        /// Is it shared?
        shared: bool,
    },
}

/// Answer to FIEMAP of extended attributes, whose blocks are counted in bytes from 0.
#[derive(Debug)]
pub enum AttrMap {
    /// No more of them.
    Hole(Span),
    /// Where they are.
    Mapped(Run),
}

/// Answer to `SEEK_DATA` and `SEEK_HOLE`.
#[derive(Debug)]
pub enum SeekMap {
    /// Certainly no data.
    Hole(Span),
    /// Data where the page cache has some (C-SEEK-UNWRITTEN).
    Unwritten(Span),
    /// Data.
    Data(Run),
}

/// A mapping for writeback.
#[derive(Clone, Copy, Debug)]
pub enum WritebackMap {
    /// Nothing to write: the range was cut off (C-WB-HOLE).
    Hole(Span),
    /// Overwrites blocks that nobody shares.
    InPlace(Run),
    /// Fills preallocated blocks, converted at completion.
    Unwritten(Run),
    /// Writes claimed blocks, mapped at completion.
    Staged(Run),
}

/// A mapping without any promise, for the bug switches of the laboratory.
#[cfg(calf_lab)]
#[derive(Clone, Copy, Debug)]
pub struct LabMap {
    /// Destination.
    pub dst: LabSide,
    /// Source, left a hole when none.
    pub src: Option<LabSide>,
}

/// One side of a [`LabMap`], field by field as in C.
#[cfg(calf_lab)]
#[derive(Clone, Copy, Debug)]
pub struct LabSide {
    /// `type`.
    pub ty: u16,
    /// `flags`.
    pub flags: u16,
    /// `addr`, bytes.
    pub addr: u64,
    /// `offset`, bytes.
    pub offset: u64,
    /// `length`, bytes.
    pub length: u64,
}

#[cfg(calf_lab)]
impl LabSide {
    /// What a C mapping says, and its cookie.
    pub(in crate::kapi) fn of(map: &bindings::iomap) -> (Self, u64) {
        let side = Self {
            ty: map.type_,
            flags: map.flags,
            addr: map.addr,
            offset: map.offset as u64,
            length: map.length,
        };
        (side, map.validity_cookie)
    }

    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }

    /// Are all bits of `flags` set?
    pub fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Hole,
    Delalloc,
    Mapped(u64),
    Unwritten(u64),
}

#[derive(Clone, Copy)]
struct Side {
    kind: Kind,
    span: Span,
    flags: u32,
}

impl Side {
    fn new(kind: Kind, span: Span, flags: u32) -> Self {
        Self { kind, span, flags }
    }

    fn hole(span: Span) -> Self {
        Self::new(Kind::Hole, span, 0)
    }

    fn mapped(run: Run, flags: u32) -> Self {
        Self::new(Kind::Mapped(run.addr), run.span, flags)
    }

    fn unwritten(run: Run, flags: u32) -> Self {
        Self::new(Kind::Unwritten(run.addr), run.span, flags)
    }
}

/// What every answer becomes.
pub struct Mapping(Inner);

enum Inner {
    Checked {
        dst: Side,
        src: Option<Run>,
        ticket: Option<Arc<Ticket>>,
    },
    #[cfg(calf_lab)]
    Lab(LabMap),
}

impl Mapping {
    fn plain(dst: Side) -> Self {
        Self(Inner::Checked {
            dst,
            src: None,
            ticket: None,
        })
    }

    fn with_source(dst: Side, src: Run) -> Self {
        Self(Inner::Checked {
            dst,
            src: Some(src),
            ticket: None,
        })
    }
}

impl From<ReadMap> for Mapping {
    fn from(m: ReadMap) -> Self {
        Self::plain(match m {
            ReadMap::Hole(span) => Side::hole(span),
            ReadMap::Mapped(run) => Side::mapped(run, 0),
            ReadMap::Unwritten(run) => Side::unwritten(run, 0),
        })
    }
}

impl<N: Reserved> From<WriteMap<N>> for Mapping {
    fn from(m: WriteMap<N>) -> Self {
        match m {
            WriteMap::InPlace(run) => Self::plain(Side::mapped(run, 0)),
            WriteMap::Unwritten(run) => Self::plain(Side::unwritten(run, 0)),
            WriteMap::Staged {
                to,
                source: Source::None,
            } => Self::plain(to.lower()),
            WriteMap::Staged {
                to,
                source: Source::Mapped(src),
            } => Self::with_source(to.lower(), src),
        }
    }
}

impl<N: Reserved> From<ZeroMap<N>> for Mapping {
    fn from(m: ZeroMap<N>) -> Self {
        match m {
            ZeroMap::Hole(span) => Self::plain(Side::hole(span)),
            ZeroMap::InPlace(run) => Self::plain(Side::mapped(run, 0)),
            ZeroMap::Unwritten { run, batch } => {
                Self::plain(Side::unwritten(run, batch.map_or(0, |b| b.0)))
            }
            ZeroMap::StagedOver { to, source } => Self::with_source(to.lower(), source),
            ZeroMap::StagedDirty { span, batch } => Self::plain(Side::new(
                Kind::Delalloc,
                span,
                bindings::IOMAP_F_SHARED | batch.0,
            )),
            #[cfg(calf_lab)]
            ZeroMap::Lab(l) => Self(Inner::Lab(l)),
        }
    }
}

impl<N: Reserved> From<UnshareMap<N>> for Mapping {
    fn from(m: UnshareMap<N>) -> Self {
        match m {
            UnshareMap::Skip(span) => Self::plain(Side::hole(span)),
            UnshareMap::Unshared(run) => Self::plain(Side::mapped(run, 0)),
            UnshareMap::Staged { to, source } => Self::with_source(to.lower(), source),
            #[cfg(calf_lab)]
            UnshareMap::Lab(l) => Self(Inner::Lab(l)),
        }
    }
}

impl From<DirectWriteMap> for Mapping {
    fn from(m: DirectWriteMap) -> Self {
        match m {
            DirectWriteMap::InPlace(run) => Self::plain(Side::mapped(run, 0)),
            DirectWriteMap::Unwritten(run) => Self::plain(Side::unwritten(run, 0)),
            DirectWriteMap::Staged(run, ticket) => Self(Inner::Checked {
                dst: Side::mapped(run, bindings::IOMAP_F_SHARED),
                src: None,
                ticket: Some(ticket),
            }),
        }
    }
}

impl From<ReportMap> for Mapping {
    fn from(m: ReportMap) -> Self {
        Self::plain(match m {
            ReportMap::Hole(span) => Side::hole(span),
            ReportMap::Delalloc(span) => Side::new(Kind::Delalloc, span, 0),
            ReportMap::Unwritten(run) => Side::unwritten(run, 0),
            ReportMap::Mapped { run, shared } => {
                Side::mapped(run, if shared { bindings::IOMAP_F_SHARED } else { 0 })
            }
        })
    }
}

impl From<AttrMap> for Mapping {
    fn from(m: AttrMap) -> Self {
        let flag = bindings::IOMAP_F_XATTR;
        Self::plain(match m {
            AttrMap::Hole(span) => Side::new(Kind::Hole, span, flag),
            AttrMap::Mapped(run) => Side::mapped(run, flag),
        })
    }
}

impl From<SeekMap> for Mapping {
    fn from(m: SeekMap) -> Self {
        Self::plain(match m {
            SeekMap::Hole(span) => Side::hole(span),
            // The seek code never looks at the address.
            SeekMap::Unwritten(span) => Side::new(Kind::Unwritten(NULL_ADDR), span, 0),
            SeekMap::Data(run) => Side::mapped(run, 0),
        })
    }
}

impl From<WritebackMap> for Mapping {
    fn from(m: WritebackMap) -> Self {
        Self::plain(match m {
            WritebackMap::Hole(span) => Side::hole(span),
            WritebackMap::InPlace(run) => Side::mapped(run, 0),
            WritebackMap::Unwritten(run) => Side::unwritten(run, 0),
            WritebackMap::Staged(run) => Side::mapped(run, bindings::IOMAP_F_SHARED),
        })
    }
}

/// An operation's mapping with what goes with every mapping.
pub struct Answer<M> {
    /// The mapping.
    pub map: M,
    /// `validity_cookie`, sampled under the lock that the mapping was read under
    /// (C-COOKIE-SAMPLE).
    pub cookie: u64,
    /// `IOMAP_F_DIRTY`: reaching the data needs a commit (C-DIRTY).
    pub dirty: bool,
}

impl<M> Answer<M> {
    /// An answer without `IOMAP_F_DIRTY`.
    pub fn new(map: M, cookie: u64) -> Self {
        Self {
            map,
            cookie,
            dirty: false,
        }
    }
}

fn side(s: Side, cookie: u64, extra: u32, bdev: *mut bindings::block_device) -> bindings::iomap {
    let null = NULL_ADDR;
    let (ty, addr) = match s.kind {
        Kind::Hole => (bindings::IOMAP_HOLE, null),
        Kind::Delalloc => (bindings::IOMAP_DELALLOC, null),
        Kind::Mapped(addr) => (bindings::IOMAP_MAPPED, addr),
        Kind::Unwritten(addr) => (bindings::IOMAP_UNWRITTEN, addr),
    };
    bindings::iomap {
        addr,
        // CAST: a span begins below 2^63; types and flags are 16-bit values in C.
        offset: s.span.start() as i64,
        length: s.span.len(),
        type_: ty as u16,
        flags: (s.flags | extra) as u16,
        bdev,
        dax_dev: core::ptr::null_mut(),
        inline_data: core::ptr::null_mut(),
        private: core::ptr::null_mut(),
        validity_cookie: cookie,
    }
}

#[cfg(calf_lab)]
fn lab_side(s: LabSide, cookie: u64, bdev: *mut bindings::block_device) -> bindings::iomap {
    bindings::iomap {
        addr: s.addr,
        offset: s.offset as i64,
        length: s.length,
        type_: s.ty,
        flags: s.flags,
        bdev,
        dax_dev: core::ptr::null_mut(),
        inline_data: core::ptr::null_mut(),
        private: core::ptr::null_mut(),
        validity_cookie: cookie,
    }
}

/// The C form of an answer: destination, and source if there is one. Every field is set, so that
/// nothing of an earlier mapping survives (C-MAP-INIT, C-WB-FRESH).
pub(in crate::kapi) fn fill<M: Into<Mapping>>(
    answer: Answer<M>,
    bdev: *mut bindings::block_device,
) -> (bindings::iomap, Option<bindings::iomap>) {
    let Answer { map, cookie, dirty } = answer;
    let extra = if dirty { bindings::IOMAP_F_DIRTY } else { 0 };
    match map.into().0 {
        Inner::Checked { dst, src, ticket } => (
            bindings::iomap {
                private: ticket.map_or(core::ptr::null_mut(), Ticket::into_private),
                ..side(dst, cookie, extra, bdev)
            },
            src.map(|run| side(Side::mapped(run, 0), cookie, 0, bdev)),
        ),
        #[cfg(calf_lab)]
        Inner::Lab(l) => (
            lab_side(l.dst, cookie, bdev),
            l.src.map(|s| lab_side(s, cookie, bdev)),
        ),
    }
}
