// SPDX-License-Identifier: GPL-2.0

//! Gates: named places in the code where a test can hold one task, to make a race certain.
//!
//! `/sys/kernel/debug/calf/<device>/gates/NAME` takes one command for each write and shows the state
//! when read:
//!
//! | command | effect |
//! |---|---|
//! | `arm [ino=N] [skip=K]` | the next task that passes (for that inode, after `K` others) is held |
//! | `wait` | returns when a task is held; `ETIMEDOUT` if none comes within the limit |
//! | `release` | lets it go and disarms the gate; `ESRCH` if nobody was held |
//! | `fail [ino=N] [skip=K]` | as `arm`, but the task goes on with `EIO`, where the place can fail |
//!
//! A held task goes on by itself after the limit, or at a signal, and the state says so: then the
//! test has missed its window. A gate holds one task and is then disarmed. Places where a gate is
//! passed hold no spinlock, no extent lock and no handle.

use crate::fs::Inode;
use core::fmt;
use kernel::debugfs::{Dir, File};
use kernel::error::code::{EINVAL, ENOMEM, ESRCH, ETIMEDOUT};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_condvar, new_mutex, Arc, CondVar, CondVarTimeoutResult, Mutex};
use kernel::time::{msecs_to_jiffies, Jiffies};
use kernel::uaccess::UserSliceReader;

/// How long a task is held, and waited for, at most.
const LIMIT_MS: u32 = 10_000;
/// Longest command.
const COMMAND: usize = 64;

macro_rules! gates {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// A place that a task can be held at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Gate {
            $($(#[$doc])* $variant,)*
        }

        impl Gate {
            const ALL: &[Self] = &[$(Self::$variant,)*];
            const COUNT: usize = Self::ALL.len();

            fn name(self) -> &'static CStr {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

gates! {
    /// The core asks whether a mapping is still valid; the folio is locked.
    IomapValid = c"iomap_valid";
    /// A reservation is about to be punched, before the extent lock is taken.
    Punch = c"punch";
    /// The I/O of a direct write has ended, its transaction has not begun.
    DioEndIo = c"dio_end_io";
    /// Writeback asks where a folio goes, before the extent lock is taken; the folio is locked. With
    /// `wb_retry_stale`: it has looked a claim up and has let the extent lock go.
    WbLookup = c"wb_lookup";
    /// Unshare asks for a mapping, before the extent lock is taken.
    UnshareBegin = c"unshare_begin";
    /// Writeback has added a range of a folio to an ioend; the folio is locked.
    WbBetween = c"wb_between";
    /// Writeback is about to decide where a range goes; the folio is locked. Can fail.
    WbMap = c"wb_map";
    /// The I/O of writeback has ended, its transaction has not begun. Can fail.
    WbEndIo = c"wb_end_io";
    /// A direct write has looked its blocks up, and is about to take the extent lock to stage them.
    DioRelock = c"dio_relock";
    /// The core wants the inode written, no transaction has begun.
    WriteInode = c"write_inode";
    /// fallocate has decided on the new size; its locks are held.
    Fallocate = c"fallocate";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Armed {
        ino: Option<u64>,
        skip: u32,
        fail: bool,
    },
    Held,
    Failed,
    Released,
    TimedOut,
    Interrupted,
}

/// All gates of a mount.
#[pin_data]
pub(crate) struct Gates {
    /// A bit for every gate that is armed, for those who pass in haste.
    armed: Atomic<u32>,
    #[pin]
    states: Mutex<[State; Gate::COUNT]>,
    #[pin]
    changed: CondVar,
}

impl Gates {
    /// No gate is armed.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                armed: Atomic::new(0),
                states <- new_mutex!([State::Idle; Gate::COUNT], "calf_gates"),
                changed <- new_condvar!("calf_gates"),
            }),
            GFP_KERNEL,
        )
    }

    fn set(&self, states: &mut [State; Gate::COUNT], gate: Gate, to: State) {
        let bit = 1 << gate as u32;
        let armed = self.armed.load(Relaxed);
        let is_armed = matches!(to, State::Armed { .. });
        // Only changed under the mutex.
        self.armed
            .store(if is_armed { armed | bit } else { armed & !bit }, Relaxed);
        if let Some(s) = states.get_mut(gate as usize) {
            *s = to;
        }
        self.changed.notify_all();
    }

    fn get(states: &[State; Gate::COUNT], gate: Gate) -> State {
        states.get(gate as usize).copied().unwrap_or(State::Idle)
    }

    /// Holds the caller if the gate is armed for it, or fails.
    fn pass(&self, gate: Gate, ino: u64) -> Result {
        if self.armed.load(Relaxed) & (1 << gate as u32) == 0 {
            return Ok(());
        }
        let mut states = self.states.lock();
        match Self::get(&states, gate) {
            State::Armed { ino: Some(n), .. } if n != ino => return Ok(()),
            State::Armed {
                skip: 0,
                fail: true,
                ..
            } => {
                self.set(&mut states, gate, State::Failed);
                return Err(EIO);
            }
            State::Armed { skip: 0, .. } => {}
            State::Armed { ino, skip, fail } => {
                let skip = skip - 1;
                self.set(&mut states, gate, State::Armed { ino, skip, fail });
                return Ok(());
            }
            _ => return Ok(()),
        }
        self.set(&mut states, gate, State::Held);
        let mut left: Jiffies = msecs_to_jiffies(LIMIT_MS);
        while Self::get(&states, gate) == State::Held {
            match self.changed.wait_interruptible_timeout(&mut states, left) {
                CondVarTimeoutResult::Woken { jiffies } => left = jiffies,
                CondVarTimeoutResult::Timeout => self.set(&mut states, gate, State::TimedOut),
                CondVarTimeoutResult::Signal { .. } => {
                    self.set(&mut states, gate, State::Interrupted)
                }
            }
        }
        Ok(())
    }

    fn arm(&self, gate: Gate, words: &str, fail: bool) -> Result {
        let (mut ino, mut skip) = (None, 0);
        for w in words.split_ascii_whitespace() {
            match w.split_once('=') {
                Some(("ino", n)) => ino = Some(n.parse().map_err(|_| EINVAL)?),
                Some(("skip", n)) => skip = n.parse().map_err(|_| EINVAL)?,
                _ => return Err(EINVAL),
            }
        }
        let mut states = self.states.lock();
        self.set(&mut states, gate, State::Armed { ino, skip, fail });
        Ok(())
    }

    fn wait(&self, gate: Gate) -> Result {
        let mut states = self.states.lock();
        let mut left: Jiffies = msecs_to_jiffies(LIMIT_MS);
        while matches!(Self::get(&states, gate), State::Armed { .. }) {
            match self.changed.wait_interruptible_timeout(&mut states, left) {
                CondVarTimeoutResult::Woken { jiffies } => left = jiffies,
                CondVarTimeoutResult::Timeout => return Err(ETIMEDOUT),
                CondVarTimeoutResult::Signal { .. } => return Err(EINTR),
            }
        }
        match Self::get(&states, gate) {
            State::Held => Ok(()),
            _ => Err(ESRCH),
        }
    }

    fn release(&self, gate: Gate) -> Result {
        let mut states = self.states.lock();
        let held = Self::get(&states, gate) == State::Held;
        self.set(&mut states, gate, State::Released);
        if held {
            Ok(())
        } else {
            Err(ESRCH)
        }
    }
}

/// Holds the caller at `gate` if a test asked for it. `EIO` if a test asked for that.
pub(crate) fn pass(inode: &Inode, gate: Gate) -> Result {
    inode.sb().data().debug().gates().pass(gate, inode.ino())
}

/// What the file of a gate holds.
struct GateFile {
    gates: Arc<Gates>,
    gate: Gate,
}

impl fmt::Debug for GateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = self.gates.states.lock();
        write!(f, "{:?}", Gates::get(&states, self.gate))
    }
}

fn show(file: &GateFile, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{file:?}")
}

fn command(file: &GateFile, reader: &mut UserSliceReader) -> Result {
    let mut buf = [0u8; COMMAND];
    let len = reader.len();
    let text = buf.get_mut(..len).ok_or(EINVAL)?;
    reader.read_slice(text)?;
    let text = core::str::from_utf8(text).map_err(|_| EINVAL)?.trim();
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "arm" => file.gates.arm(file.gate, rest, false),
        "fail" => file.gates.arm(file.gate, rest, true),
        "wait" => file.gates.wait(file.gate),
        "release" => file.gates.release(file.gate),
        _ => Err(EINVAL),
    }
}

/// The folder `gates` of a mount.
pub(crate) struct GateDir {
    gates: Arc<Gates>,
    _files: KVec<Pin<KBox<File<GateFile>>>>,
    // Removed after the files in it.
    _dir: Option<Dir>,
}

impl GateDir {
    /// Makes the folder below `parent`, the folder of the mount.
    pub(crate) fn new(parent: Option<&Dir>) -> Result<Self> {
        let gates = Gates::new()?;
        let dir = parent.map(|p| p.subdir(c"gates"));
        let mut files = KVec::with_capacity(Gate::COUNT, GFP_KERNEL)?;
        if let Some(dir) = &dir {
            for &gate in Gate::ALL {
                let data = GateFile {
                    gates: gates.clone(),
                    gate,
                };
                let file = dir.read_write_callback_file(gate.name(), data, &show, &command);
                let file = KBox::pin_init(file, GFP_KERNEL).map_err(|_| ENOMEM)?;
                files.push(file, GFP_KERNEL)?;
            }
        }
        Ok(Self {
            gates,
            _files: files,
            _dir: dir,
        })
    }

    /// The gates.
    pub(crate) fn gates(&self) -> &Gates {
        &self.gates
    }
}
