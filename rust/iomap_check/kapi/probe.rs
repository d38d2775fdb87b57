// SPDX-License-Identifier: GPL-2.0

//! kprobes and kretprobes, where the kernel has them.
//!
//! C header: [`include/linux/kprobes.h`](srctree/include/linux/kprobes.h)

use super::inode::InodeRef;
use super::iter::IterRef;
use crate::bindings;
use core::ffi::CStr;
use kernel::error::to_result;
use kernel::ffi::{c_long, c_ulong, c_void};
use kernel::interrupt::LocalInterruptDisabled;
use kernel::prelude::*;
use kernel::sync::lock::spinlock::SpinLockGuard;
use kernel::sync::{Arc, SpinLock, SpinLockIrq};

/// Who listens. The rules of [`Hooks`](super::hooks::Hooks) apply.
pub(crate) trait Probed: Send + Sync + 'static {
    /// `iomap_iter` was called from `caller`, which its tracepoint does not know then.
    fn iter_called(&self, iter: IterRef<'_>, caller: usize);
    /// `iomap_iter` returns `ret` to the owner of the iterator, which may be gone by its end.
    fn iter_returns(&self, iter: IterRef<'_>, ret: i64);
    /// A function was entered.
    fn entered(&self, function: Function, inode: InodeRef<'_>);
}

fn in_nmi() -> bool {
    // SAFETY: May be called anywhere.
    unsafe { bindings::check_in_nmi() }
}

/// Is this a task's own doing, not that of an interrupt that came while it ran?
pub(crate) fn in_task() -> bool {
    // SAFETY: May be called anywhere.
    unsafe { bindings::check_in_task() }
}

/// Takes a lock that a handler takes.
///
/// A probe that is a breakpoint counts as an NMI, where lockdep admits only attempts. It comes from a call,
/// though, and nothing that is probed is called under such a lock: who holds it runs elsewhere, and will let go.
pub(crate) fn lock<T: ?Sized>(lock: &SpinLock<T>) -> SpinLockGuard<'_, T> {
    if !in_nmi() {
        return lock.lock();
    }
    attempt(|| lock.try_lock())
}

/// Calls `f` under a lock that interrupts take as well; otherwise as [`lock`].
pub(crate) fn with_irq<T: Unpin, R>(lock: &SpinLockIrq<T>, f: impl FnOnce(&mut T) -> R) -> R {
    if !in_nmi() {
        return f(&mut lock.lock());
    }
    // SAFETY: Interrupts are off in what counts as an NMI.
    let off = unsafe { LocalInterruptDisabled::assume_disabled() };
    f(&mut attempt(|| lock.try_lock_with(off)))
}

fn attempt<G>(mut lock: impl FnMut() -> Option<G>) -> G {
    loop {
        if let Some(guard) = lock() {
            return guard;
        }
        core::hint::spin_loop();
    }
}

/// The functions whose entry is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// `iomap_write_delalloc_release`
    DelallocRelease,
    /// `iomap_file_unshare`
    Unshare,
    /// `iomap_zero_range`
    ZeroRange,
    /// `iomap_page_mkwrite`
    PageMkwrite,
    /// `iomap_file_buffered_write`
    BufferedWrite,
}

/// # Safety
///
/// The kretprobe on `iomap_iter`: `data` is the listener, `arg0` the iterator.
unsafe extern "C" fn on_iter_return<T: Probed>(data: *mut c_void, arg0: c_ulong, ret: c_long) {
    // SAFETY: By the safety requirements of this function.
    let probed = unsafe { &*data.cast::<T>() };
    // SAFETY: The caller of `iomap_iter` still has its iterator when the function returns.
    if let Some(iter) = unsafe { IterRef::from_raw(arg0 as *mut bindings::iomap_iter) } {
        // An `int`, of which the upper half of the register says nothing.
        probed.iter_returns(iter, i64::from(ret as i32));
    }
}

/// # Safety
///
/// As [`on_iter_return`], at the entry.
unsafe extern "C" fn on_iter_entry<T: Probed>(data: *mut c_void, arg0: c_ulong, caller: c_ulong) {
    // SAFETY: By the safety requirements of this function.
    let probed = unsafe { &*data.cast::<T>() };
    // SAFETY: The first argument of `iomap_iter` is the iterator.
    if let Some(iter) = unsafe { IterRef::from_raw(arg0 as *mut bindings::iomap_iter) } {
        probed.iter_called(iter, caller);
    }
}

/// What the first argument of a function is.
enum Arg {
    Inode,
    Kiocb,
    Fault,
}

/// # Safety
///
/// `arg0` must be what `arg` says, valid, in use by the running task.
unsafe fn inode_of<'a>(arg: Arg, arg0: c_ulong) -> Option<InodeRef<'a>> {
    let inode = match arg {
        Arg::Inode => arg0 as *mut bindings::inode,
        Arg::Kiocb => {
            // SAFETY: By the safety requirements of this function.
            let file = unsafe { (*(arg0 as *mut bindings::kiocb)).ki_filp };
            // SAFETY: The file of a request is open.
            unsafe { bindings::check_file_inode(file) }
        }
        // SAFETY: By the safety requirements of this function; write faults of iomap have a file.
        Arg::Fault => unsafe { bindings::check_vmf_inode(arg0 as *const bindings::vm_fault) },
    };
    // SAFETY: By the safety requirements of this function.
    unsafe { InodeRef::from_raw(inode) }
}

/// Makes one trampoline for each function.
macro_rules! entries {
    ($($name:ident($function:ident, $arg:ident);)*) => {$(
        /// # Safety
        ///
        /// The kprobe on the function of its name: `data` is the listener, `arg0` its argument.
        unsafe extern "C" fn $name<T: Probed>(data: *mut c_void, arg0: c_ulong, _: c_ulong) {
            // SAFETY: By the safety requirements of this function.
            let probed = unsafe { &*data.cast::<T>() };
            // SAFETY: As above.
            if let Some(inode) = unsafe { inode_of(Arg::$arg, arg0) } {
                probed.entered(Function::$function, inode);
            }
        }
    )*};
}

entries! {
    on_release(DelallocRelease, Inode);
    on_unshare(Unshare, Inode);
    on_zero_range(ZeroRange, Inode);
    on_mkwrite(PageMkwrite, Fault);
    on_buffered_write(BufferedWrite, Kiocb);
}

/// The probes of a listener, in place until this is dropped.
pub(crate) struct Probes<T: Probed> {
    probes: KVec<*mut bindings::check_probe>,
    listener: Arc<T>,
}

// SAFETY: The probes are owned, and handed only to functions that lock.
unsafe impl<T: Probed> Send for Probes<T> {}
// SAFETY: As above; a shared reference offers nothing.
unsafe impl<T: Probed> Sync for Probes<T> {}

impl<T: Probed> Probes<T> {
    /// Places all probes. Errors: `EOPNOTSUPP` without CONFIG_KPROBES; `ENOENT` and others if a
    /// function cannot be probed.
    pub(crate) fn new(listener: Arc<T>) -> Result<Self> {
        let mut new = Self {
            probes: KVec::with_capacity(8, GFP_KERNEL)?,
            listener,
        };
        new.place(
            c"iomap_iter",
            Some(on_iter_entry::<T>),
            Some(on_iter_return::<T>),
        )?;
        new.place(c"iomap_write_delalloc_release", Some(on_release::<T>), None)?;
        new.place(c"iomap_file_unshare", Some(on_unshare::<T>), None)?;
        new.place(c"iomap_zero_range", Some(on_zero_range::<T>), None)?;
        new.place(c"iomap_page_mkwrite", Some(on_mkwrite::<T>), None)?;
        new.place(
            c"iomap_file_buffered_write",
            Some(on_buffered_write::<T>),
            None,
        )?;
        Ok(new)
    }

    fn place(
        &mut self,
        symbol: &'static CStr,
        enter: bindings::check_enter_t,
        leave: bindings::check_leave_t,
    ) -> Result {
        let data = Arc::as_ptr(&self.listener).cast_mut().cast();
        let mut probe = core::ptr::null_mut();
        // SAFETY: The symbol is static; `data` lives until `drop` has removed the probe.
        to_result(unsafe {
            bindings::check_probe_register(&mut probe, symbol.as_char_ptr(), enter, leave, data)
        })?;
        Ok(self.probes.push(probe, GFP_KERNEL)?)
    }
}

impl<T: Probed> Drop for Probes<T> {
    fn drop(&mut self) {
        for probe in &self.probes {
            // SAFETY: It was placed here. Returns when no handler runs any more.
            unsafe { bindings::check_probe_unregister(*probe) };
        }
    }
}
