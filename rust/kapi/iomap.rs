// SPDX-License-Identifier: GPL-2.0

//! iomap: the generic code that moves file data, and what a filesystem tells it.
//!
//! C header: [`include/linux/iomap.h`](srctree/include/linux/iomap.h)
//!
//! A filesystem implements [`IomapOps`] once for each operation, with the mapping enum that
//! belongs to it ([`map`]), and passes the table that [`table`] builds to the functions of
//! [`call`]:
//!
//! ```ignore
//! struct Read;
//! #[vtable]
//! impl IomapOps for Read {
//!     type Fs = MyFs;
//!     type Map = ReadMap;
//!     fn begin(inode: &Inode<MyFs>, req: Request, _: Iter<'_>) -> Result<Answer<ReadMap>> {
//!         // look the extent up under the filesystem's lock, sample the cookie, release the lock
//!         Ok(Answer::new(ReadMap::Mapped(run), cookie))
//!     }
//! }
//! let ops: OpsRef<MyFs> = table::<Read>();
//! ```
//!
//! Contract ids (C-...) are those of docs/contracts.md.

pub mod call;
#[cfg(calf_lab)]
pub mod lab;
pub mod map;
pub mod ops;

pub use call::*;
pub use map::*;
pub use ops::*;
