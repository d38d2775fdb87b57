// SPDX-License-Identifier: GPL-2.0

//! Requests that go on while the program does something else: kernel AIO and io_uring.

use super::{last, Aligned, Result};
use io_uring::{opcode, types, IoUring};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Direction of an asynchronous request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dir {
    /// File to memory.
    Read,
    /// Memory to file.
    Write,
}

/// A set of asynchronous requests that owns the buffers while they are in flight.
pub trait Queue {
    /// Starts one request for the whole buffer, with `RWF_*` flags; returns its number.
    fn submit_with(
        &mut self,
        fd: BorrowedFd<'_>,
        dir: Dir,
        off: u64,
        buf: Aligned,
        flags: i32,
    ) -> Result<usize>;

    /// Waits for one request: its number, its result (bytes) and its buffer.
    fn wait(&mut self) -> Result<(usize, Result<usize>, Aligned)>;

    /// Requests in flight.
    fn pending(&self) -> usize;

    /// Starts one request for the whole buffer; returns its number.
    fn submit(&mut self, fd: BorrowedFd<'_>, dir: Dir, off: u64, buf: Aligned) -> Result<usize> {
        self.submit_with(fd, dir, off, buf, 0)
    }
}

#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    prio: i16,
    fd: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    resfd: u32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct IoEvent {
    data: u64,
    obj: u64,
    res: i64,
    res2: i64,
}

/// Kernel AIO.
pub struct Aio {
    ctx: u64,
    inflight: Vec<Option<Aligned>>,
}

impl Aio {
    /// Room for `n` requests at a time.
    pub fn new(n: usize) -> Result<Aio> {
        let mut ctx = 0u64;
        // SAFETY: `ctx` is a valid place for the context number.
        let r = unsafe { libc::syscall(libc::SYS_io_setup, n as libc::c_long, &mut ctx) };
        if r < 0 {
            return Err(last());
        }
        Ok(Aio {
            ctx,
            inflight: (0..n).map(|_| None).collect(),
        })
    }
}

impl Queue for Aio {
    fn submit_with(
        &mut self,
        fd: BorrowedFd<'_>,
        dir: Dir,
        off: u64,
        mut buf: Aligned,
        flags: i32,
    ) -> Result<usize> {
        let slot = vacant(&self.inflight)?;
        let mut cb = Iocb {
            data: slot as u64,
            opcode: if dir == Dir::Read { 0 } else { 1 },
            fd: fd.as_raw_fd() as u32,
            buf: buf.as_mut_ptr() as u64,
            nbytes: buf.len() as u64,
            offset: off as i64,
            rw_flags: flags,
            ..Iocb::default()
        };
        let mut list = [&mut cb as *mut Iocb];
        // SAFETY: one valid iocb; its buffer is kept in `inflight` until its event came.
        let r = unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                self.ctx,
                1 as libc::c_long,
                list.as_mut_ptr(),
            )
        };
        if r != 1 {
            return Err(last());
        }
        self.inflight[slot] = Some(buf);
        Ok(slot)
    }

    fn wait(&mut self) -> Result<(usize, Result<usize>, Aligned)> {
        let mut ev = IoEvent::default();
        loop {
            // SAFETY: room for one event, no time limit.
            let r = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.ctx,
                    1 as libc::c_long,
                    1 as libc::c_long,
                    &mut ev as *mut IoEvent,
                    std::ptr::null::<libc::timespec>(),
                )
            };
            match r {
                1 => break,
                // A ring that is being closed wakes its process.
                _ if last() == Errno::INTR => {}
                _ => return Err(last()),
            }
        }
        let slot = ev.data as usize;
        let buf = self
            .inflight
            .get_mut(slot)
            .and_then(Option::take)
            .ok_or(Errno::IO)?;
        let res = usize::try_from(ev.res).map_err(|_| Errno::from_raw_os_error(-ev.res as i32));
        Ok((slot, res, buf))
    }

    fn pending(&self) -> usize {
        self.inflight.iter().filter(|b| b.is_some()).count()
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: the context is ours; the call waits for all requests, whose buffers still live.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.ctx) };
    }
}

/// io_uring.
pub struct Ring {
    ring: IoUring,
    inflight: Vec<Option<Aligned>>,
}

impl Ring {
    /// Room for `n` requests at a time.
    pub fn new(n: usize) -> Result<Ring> {
        let ring = IoUring::new(n as u32).map_err(|e| errno(&e))?;
        Ok(Ring {
            ring,
            inflight: (0..n).map(|_| None).collect(),
        })
    }
}

/// A place for one more request. `EAGAIN` if there is none.
fn vacant<T>(slots: &[Option<T>]) -> Result<usize> {
    let free = slots.iter().position(Option::is_none);
    free.ok_or(Errno::AGAIN)
}

fn errno(e: &std::io::Error) -> Errno {
    Errno::from_io_error(e).unwrap_or(Errno::IO)
}

impl Queue for Ring {
    fn submit_with(
        &mut self,
        fd: BorrowedFd<'_>,
        dir: Dir,
        off: u64,
        mut buf: Aligned,
        flags: i32,
    ) -> Result<usize> {
        let slot = vacant(&self.inflight)?;
        let fd = types::Fd(fd.as_raw_fd());
        let len = buf.len() as u32;
        let entry = match dir {
            Dir::Read => opcode::Read::new(fd, buf.as_mut_ptr(), len)
                .offset(off)
                .rw_flags(flags)
                .build(),
            Dir::Write => opcode::Write::new(fd, buf.as_ptr(), len)
                .offset(off)
                .rw_flags(flags)
                .build(),
        };
        let entry = entry.user_data(slot as u64);
        // SAFETY: the buffer is kept in `inflight` until its completion came.
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| Errno::BUSY)?;
        self.inflight[slot] = Some(buf);
        self.ring.submit().map_err(|e| errno(&e))?;
        Ok(slot)
    }

    fn wait(&mut self) -> Result<(usize, Result<usize>, Aligned)> {
        let done = loop {
            if let Some(done) = self.ring.completion().next() {
                break done;
            }
            match self.ring.submit_and_wait(1).map_err(|e| errno(&e)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        };
        let slot = done.user_data() as usize;
        let buf = self
            .inflight
            .get_mut(slot)
            .and_then(Option::take)
            .ok_or(Errno::IO)?;
        let res = usize::try_from(done.result());
        Ok((
            slot,
            res.map_err(|_| Errno::from_raw_os_error(-done.result())),
            buf,
        ))
    }

    fn pending(&self) -> usize {
        self.inflight.iter().filter(|b| b.is_some()).count()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closing a ring does not wait for its requests, whose memory is about to go.
        while self.pending() > 0 {
            if self.wait().is_err() {
                std::mem::take(&mut self.inflight)
                    .into_iter()
                    .for_each(std::mem::forget);
            }
        }
    }
}
