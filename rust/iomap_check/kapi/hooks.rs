// SPDX-License-Identifier: GPL-2.0

//! Attaching to the tracepoints of iomap.
//!
//! They are not exported, so they are found by name among the kernel's. The handlers get the raw
//! arguments of the tracepoint.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use super::inode::InodeRef;
use super::iter::{IterRef, Writeback};
use crate::bindings;
use crate::judge::oracle::Direct;
use core::ffi::CStr;
use kernel::error::to_result;
use kernel::ffi::{c_int, c_uint, c_ulong, c_void};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::task::Task;

/// A direct I/O that begins.
pub(crate) struct DirectIo<'a> {
    /// The file.
    pub(crate) inode: InodeRef<'a>,
    /// Synchronous (`IOCB_DSYNC`).
    pub(crate) dsync: bool,
    /// It writes.
    pub(crate) writes: bool,
    /// What the rules for directed tests want to know.
    pub(crate) direct: Direct,
}

/// Who listens. Handlers must not sleep, nor take a lock that a filesystem may hold; they run in the
/// task that the event is about, unless the event says otherwise.
pub(crate) trait Hooks: Send + Sync + 'static {
    /// `iomap_iter`: an operation comes for a mapping, by the `iomap_ops` at address `ops`, called
    /// from `caller`.
    fn iter(&self, iter: IterRef<'_>, ops: usize, caller: usize);
    /// `iomap_iter_dstmap`: a mapping was made.
    fn dstmap(&self, iter: IterRef<'_>);
    /// `iomap_add_to_ioend`: writeback uses a mapping.
    fn writeback(&self, wb: Writeback<'_>);
    /// `filemap_set_wb_err`: writeback of a file ended with this error (positive). May come in an
    /// interrupt.
    fn writeback_failed(&self, inode: InodeRef<'_>, errno: i32);
    /// `iomap_dio_rw_begin`: direct I/O begins.
    fn dio_begin(&self, dio: DirectIo<'_>);
    /// `iomap_dio_complete`: that of the request at address `iocb` ends with `ret`. May come in
    /// another task or in an interrupt.
    fn dio_end(&self, iocb: usize, ret: i64);
    /// `sb_clear_inode_writeback`: no writeback of the file is under way any more. May come in an
    /// interrupt, and comes under locks of the page cache.
    fn writeback_ended(&self, inode: InodeRef<'_>);
}

/// # Safety
///
/// Called by the tracepoint `iomap_iter`; `data` is an `Arc` of `T` that [`Attached`] keeps.
unsafe extern "C" fn on_iter<T: Hooks>(
    data: *mut c_void,
    iter: *mut bindings::iomap_iter,
    ops: *const c_void,
    caller: c_ulong,
) {
    // SAFETY: By the safety requirements of this function.
    let hooks = unsafe { &*data.cast::<T>() };
    // SAFETY: The tracepoint gives the iterator of the running task.
    if let Some(iter) = unsafe { IterRef::from_raw(iter) } {
        hooks.iter(iter, ops as usize, caller);
    }
}

/// # Safety
///
/// As [`on_iter`], for `iomap_iter_dstmap`.
unsafe extern "C" fn on_dstmap<T: Hooks>(
    data: *mut c_void,
    _inode: *mut bindings::inode,
    map: *mut bindings::iomap,
) {
    // SAFETY: By the safety requirements of this function.
    let hooks = unsafe { &*data.cast::<T>() };
    // SAFETY: This tracepoint fires in iomap_iter_done() only, with `&iter->iomap`.
    if let Some(iter) = unsafe { IterRef::from_map(map) } {
        hooks.dstmap(iter);
    }
}

/// # Safety
///
/// As [`on_iter`], for `iomap_add_to_ioend`.
unsafe extern "C" fn on_add_to_ioend<T: Hooks>(
    data: *mut c_void,
    inode: *mut bindings::inode,
    pos: u64,
    len: c_uint,
    map: *mut bindings::iomap,
) {
    // SAFETY: By the safety requirements of this function.
    let hooks = unsafe { &*data.cast::<T>() };
    // SAFETY: This tracepoint fires in iomap_add_to_ioend() only, with `&wpc->iomap`.
    if let Some(wb) = unsafe { Writeback::from_raw(inode, pos, len, map) } {
        hooks.writeback(wb);
    }
}

/// # Safety
///
/// As [`on_iter`], for `iomap_dio_rw_begin`.
unsafe extern "C" fn on_dio_begin<T: Hooks>(
    data: *mut c_void,
    iocb: *mut bindings::kiocb,
    iter: *mut bindings::iov_iter,
    flags: c_uint,
    done_before: usize,
) {
    // SAFETY: By the safety requirements of this function.
    let hooks = unsafe { &*data.cast::<T>() };
    // SAFETY: The tracepoint gives a valid request.
    let file = unsafe { (*iocb).ki_filp };
    // SAFETY: As above.
    let dsync = unsafe { bindings::check_iocb_is_dsync(iocb) };
    // SAFETY: The file of a request is open.
    let inode = unsafe { bindings::check_file_inode(file) };
    // SAFETY: The inode of an open file is in use.
    let Some(inode) = (unsafe { InodeRef::from_raw(inode) }) else {
        return;
    };
    // SAFETY: The tracepoint gives a valid request.
    let pos = unsafe { (*iocb).ki_pos };
    let mut memory = bindings::check_iov::default();
    // SAFETY: The tracepoint gives a valid iterator.
    unsafe { bindings::check_iov_look(iter, &mut memory) };
    hooks.dio_begin(DirectIo {
        inode,
        dsync,
        writes: memory.writes,
        direct: Direct {
            task: Task::current_raw() as usize,
            iocb: iocb as usize,
            iter: iter as usize,
            pos,
            asked: memory.left,
            before: done_before as u64,
            partial: flags & bindings::IOMAP_DIO_PARTIAL != 0,
            used: memory.used,
        },
    });
}

/// # Safety
///
/// As [`on_iter`], for `iomap_dio_complete`.
unsafe extern "C" fn on_dio_complete<T: Hooks>(
    data: *mut c_void,
    iocb: *mut bindings::kiocb,
    _error: c_int,
    ret: isize,
) {
    // SAFETY: By the safety requirements of this function.
    let hooks = unsafe { &*data.cast::<T>() };
    hooks.dio_end(iocb as usize, ret as i64);
}

/// # Safety
///
/// As [`on_iter`], for `sb_clear_inode_writeback`.
unsafe extern "C" fn on_writeback_ended<T: Hooks>(data: *mut c_void, inode: *mut bindings::inode) {
    // SAFETY: By the safety requirements of this function.
    let hooks = unsafe { &*data.cast::<T>() };
    // SAFETY: The tracepoint gives the inode of a mapping in use.
    if let Some(inode) = unsafe { InodeRef::from_raw(inode) } {
        hooks.writeback_ended(inode);
    }
}

/// # Safety
///
/// As [`on_iter`], for `filemap_set_wb_err`.
unsafe extern "C" fn on_wb_err<T: Hooks>(
    data: *mut c_void,
    mapping: *mut bindings::address_space,
    _before: bindings::errseq_t,
) {
    // SAFETY: By the safety requirements of this function.
    let hooks = unsafe { &*data.cast::<T>() };
    // SAFETY: The tracepoint gives a mapping in use.
    let host = unsafe { (*mapping).host };
    // SAFETY: The inode of a mapping in use is in use.
    if let Some(inode) = unsafe { InodeRef::from_raw(host) } {
        // SAFETY: As above. What the tracepoint gives is the value before: errseq_set() returns what
        // cmpxchg() does.
        let error = unsafe { (*mapping).wb_err };
        // The low bits of an errseq_t are the error, as in lib/errseq.c.
        hooks.writeback_failed(inode, (error & 0xfff) as i32);
    }
}

/// How many tracepoints.
const POINTS: usize = 7;

/// What is attached to one tracepoint.
struct Attachment {
    name: &'static CStr,
    tracepoint: *mut bindings::tracepoint,
    handler: *mut c_void,
}

/// The handlers of a listener, attached until this is dropped.
pub(crate) struct Attached<T: Hooks> {
    points: [Attachment; POINTS],
    hooks: Arc<T>,
}

// SAFETY: Tracepoints and handlers live as long as the kernel and this module, and are only compared
// and handed to functions that lock.
unsafe impl<T: Hooks> Send for Attached<T> {}
// SAFETY: As above; a shared reference offers nothing.
unsafe impl<T: Hooks> Sync for Attached<T> {}

/// # Safety
///
/// For `for_each_kernel_tracepoint` only: `found` is a `[Attachment; POINTS]`.
unsafe extern "C" fn look(tp: *mut bindings::tracepoint, found: *mut c_void) {
    // SAFETY: By the safety requirements of this function.
    let points = unsafe { &mut *found.cast::<[Attachment; POINTS]>() };
    // SAFETY: The kernel gives valid tracepoints.
    let name = unsafe { (*tp).name };
    // SAFETY: Names of tracepoints are strings.
    let name = unsafe { CStr::from_char_ptr(name) };
    if let Some(p) = points.iter_mut().find(|p| p.name == name) {
        p.tracepoint = tp;
    }
}

impl<T: Hooks> Attached<T> {
    /// Attaches `hooks`. Errors: `ENOENT` if the kernel lacks a tracepoint, else what the kernel
    /// says.
    pub(crate) fn new(hooks: Arc<T>) -> Result<Self> {
        let point = |name, handler| Attachment {
            name,
            tracepoint: core::ptr::null_mut(),
            handler,
        };
        let mut new = Self {
            points: [
                point(c"iomap_iter", on_iter::<T> as *mut c_void),
                point(c"iomap_iter_dstmap", on_dstmap::<T> as *mut c_void),
                point(c"iomap_add_to_ioend", on_add_to_ioend::<T> as *mut c_void),
                point(c"iomap_dio_rw_begin", on_dio_begin::<T> as *mut c_void),
                point(c"filemap_set_wb_err", on_wb_err::<T> as *mut c_void),
                point(c"iomap_dio_complete", on_dio_complete::<T> as *mut c_void),
                point(
                    c"sb_clear_inode_writeback",
                    on_writeback_ended::<T> as *mut c_void,
                ),
            ],
            hooks,
        };
        let found = core::ptr::from_mut(&mut new.points).cast();
        // SAFETY: `look` gets what it wants; the function only reads the kernel's table.
        unsafe { bindings::for_each_kernel_tracepoint(Some(look), found) };
        if let Some(p) = new.points.iter().find(|p| p.tracepoint.is_null()) {
            kernel::pr_err!("no tracepoint {}\n", p.name.to_str().unwrap_or("?"));
            for p in &mut new.points {
                p.tracepoint = core::ptr::null_mut();
            }
            return Err(ENOENT);
        }
        let data = new.data();
        let mut done = Ok(());
        for p in &mut new.points {
            if done.is_ok() {
                // SAFETY: The handler has the prototype of the tracepoint; `data` lives until `drop`
                // has detached it.
                done = to_result(unsafe {
                    bindings::tracepoint_probe_register(p.tracepoint, p.handler, data)
                });
            }
            if done.is_err() {
                p.tracepoint = core::ptr::null_mut();
            }
        }
        done.map(|()| new)
    }

    fn data(&self) -> *mut c_void {
        Arc::as_ptr(&self.hooks).cast_mut().cast()
    }
}

impl<T: Hooks> Drop for Attached<T> {
    fn drop(&mut self) {
        for p in self.points.iter().filter(|p| !p.tracepoint.is_null()) {
            // SAFETY: It was attached with these arguments.
            unsafe { bindings::tracepoint_probe_unregister(p.tracepoint, p.handler, self.data()) };
        }
        // SAFETY: May sleep here. After it no handler runs any more.
        unsafe { bindings::check_tracepoint_synchronize() };
    }
}
