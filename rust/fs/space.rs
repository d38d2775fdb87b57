// SPDX-License-Identifier: GPL-2.0

//! The account of free blocks: how many may still be promised.
//!
//! Every block that an operation may need is promised before the operation starts, so that nothing
//! fails for lack of space half way (B2). Three amounts never enter the general account:
//!
//! * the *set-aside*: what the refcount tree may still need in the worst case (B2a);
//! * the *pool*: a small number of blocks for operations that free blocks. Others that a user expects to
//!   work on a full filesystem may use a part of it (B2c, [`Share`]);
//! * *pending* blocks: freed in a transaction that has not committed, or about to be discarded.

use kernel::error::code::ENOSPC;
use kernel::error::Result;
use kernel::prelude::*;
use kernel::sync::{new_condvar, new_spinlock, CondVar, SpinLock};

/// The numbers of the account, in blocks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// Blocks that can be allocated at once: free on disk and in no in-memory set (C2).
    pub free: u64,
    /// Part of `free` that has been promised.
    pub reserved: u64,
    /// Freed, but not yet by a committed transaction, or about to be discarded.
    pub pending: u64,
    /// Part of `pending` that waits for no commit, only for its discard.
    discarding: u64,
    /// Part of `free` kept for the growth of the refcount tree.
    pub set_aside: u64,
    /// Part of `free` kept for operations that may use the pool.
    pub pool: u64,
    /// Counts the commits and discards that released blocks; waiters watch it.
    releases: u64,
    /// How many wait in [`Space::wait_settled`].
    settling: u32,
    /// How many promises are left until one is refused, 0 if none will be.
    #[cfg(calf_lab)]
    pub refuse: u32,
}

/// How much of the pool a promise may use (B2c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Nothing.
    None,
    /// A half: a rename or a link, which seldom makes a directory grow, and a clone over blocks that it frees, whose
    /// new mappings may take more than that.
    Half,
    /// All but a quarter: the tree of a file whose preallocated blocks are written, which `fallocate` has
    /// promised, or where a range is taken out or moved; an attribute that becomes no larger.
    Most,
    /// All: operations that free blocks. The quarter that nobody else takes is 16 blocks at least, which
    /// is enough for one step after the other.
    All,
}

impl Account {
    fn available(&self, share: Share) -> u64 {
        let kept = match share {
            Share::None => self.pool,
            Share::Half => self.pool / 2,
            Share::Most => self.pool / 4,
            Share::All => 0,
        };
        self.free
            .saturating_sub(self.reserved + self.set_aside + kept)
    }
}

/// The account of a mounted filesystem.
#[pin_data]
pub(crate) struct Space {
    #[pin]
    account: SpinLock<Account>,
    #[pin]
    released: CondVar,
}

impl Space {
    /// Initialiser with the numbers found at mount.
    pub(crate) fn new(account: Account) -> impl PinInit<Self> {
        pin_init!(Self {
            account <- new_spinlock!(account, "calf_space"),
            released <- new_condvar!("calf_space_released"),
        })
    }

    /// A copy of the numbers.
    pub(crate) fn account(&self) -> Account {
        *self.account.lock()
    }

    /// Sets the amounts that are kept back (B2a, B2c). Mount only.
    pub(crate) fn set_kept(&self, set_aside: u64, pool: u64) {
        let mut a = self.account.lock();
        a.set_aside = set_aside;
        a.pool = pool;
    }

    /// The filesystem has `free` more blocks, of which `set_aside` are kept for the refcount tree;
    /// the pool is `pool` now.
    pub(crate) fn grown(&self, free: u64, set_aside: u64, pool: u64) {
        let mut a = self.account.lock();
        a.free += free;
        a.set_aside += set_aside;
        a.pool = pool;
    }

    /// Promises `n` blocks, of the pool too as far as `share` says. Errors: `ENOSPC`.
    pub(crate) fn reserve(&self, n: u64, share: Share) -> Result {
        let mut a = self.account.lock();
        #[cfg(calf_lab)]
        crate::lab::refuse::pass(&mut a.refuse)?;
        if a.available(share) < n {
            return Err(ENOSPC);
        }
        a.reserved += n;
        Ok(())
    }

    /// The `n`-th promise from now on is refused; 0: none.
    #[cfg(calf_lab)]
    pub(crate) fn refuse(&self, n: u32) {
        self.account.lock().refuse = n;
    }

    /// Takes back a promise of `n` blocks.
    pub(crate) fn release(&self, n: u64) {
        let mut a = self.account.lock();
        debug_assert!(a.reserved >= n);
        a.reserved = a.reserved.saturating_sub(n);
    }

    /// A promise of one block is moved from the set-aside to the caller (refcount tree only).
    pub(crate) fn take_set_aside(&self) {
        let mut a = self.account.lock();
        a.set_aside = a.set_aside.saturating_sub(1);
        a.reserved += 1;
    }

    /// A block of the refcount tree was given up: the tree may need it again.
    pub(crate) fn return_set_aside(&self) {
        self.account.lock().set_aside += 1;
    }

    /// A promise made by [`Space::take_set_aside`] goes back to the set-aside.
    pub(crate) fn return_set_aside_promise(&self) {
        let mut a = self.account.lock();
        a.reserved = a.reserved.saturating_sub(1);
        a.set_aside += 1;
    }

    /// `n` promised blocks were chosen.
    pub(crate) fn claimed(&self, n: u64) {
        let mut a = self.account.lock();
        debug_assert!(a.reserved >= n && a.free >= n);
        a.free = a.free.saturating_sub(n);
        a.reserved = a.reserved.saturating_sub(n);
    }

    /// `n` blocks became allocatable. With `promised`, to the one who gave them back.
    pub(crate) fn freed(&self, n: u64, promised: bool) {
        let mut a = self.account.lock();
        a.free += n;
        if promised {
            a.reserved += n;
        }
    }

    /// `n` blocks were freed in the running transaction.
    pub(crate) fn pending(&self, n: u64) {
        self.account.lock().pending += n;
    }

    /// Takes up to `n` free blocks that are not promised out of the account, to discard them. They
    /// count as pending meanwhile (B4). Returns how many; [`Space::discarded`] gives them back.
    pub(crate) fn hold(&self, n: u64) -> u64 {
        let mut a = self.account.lock();
        let n = n.min(a.available(Share::None));
        a.free -= n;
        a.pending += n;
        a.discarding += n;
        n
    }

    /// A transaction is through: of the blocks that it freed, `released` are pending no more, and `usable` of these
    /// are allocatable now; `discarding` are to be discarded first.
    /// Called by the commit thread: takes only the innermost lock (D7).
    pub(crate) fn committed(&self, released: u64, usable: u64, discarding: u64) {
        self.give_back(released, usable, |a| a.discarding += discarding);
    }

    /// `n` blocks have been discarded; `usable` of them are allocatable now.
    pub(crate) fn discarded(&self, n: u64, usable: u64) {
        self.give_back(n, usable, |a| a.discarding = a.discarding.saturating_sub(n));
    }

    /// `n` blocks are pending no more, and `usable` of them are allocatable now; tells those who wait.
    fn give_back(&self, n: u64, usable: u64, also: impl FnOnce(&mut Account)) {
        let mut a = self.account.lock();
        a.pending = a.pending.saturating_sub(n);
        a.free += usable;
        also(&mut a);
        a.releases = a.releases.wrapping_add(1);
        drop(a);
        self.released.notify_all();
    }

    /// The number of releases so far, if blocks are pending, or others that the next commit makes usable; and how
    /// many of them wait for no commit, only for their discard.
    pub(crate) fn pending_since(&self, others: impl FnOnce() -> bool) -> Option<(u64, u64)> {
        let a = self.account.lock();
        (a.pending > 0 || others()).then_some((a.releases, a.discarding))
    }

    /// Waits until a commit or a discard has released blocks since `since`, or nothing is pending and there are no others (B4).
    ///
    /// jbd2 wakes waiters of a commit that came late before it runs the callback, so waiting for
    /// the commit is not enough.
    pub(crate) fn wait_release(&self, since: u64, others: impl Fn() -> bool) {
        let mut a = self.account.lock();
        while (a.pending > 0 || others()) && a.releases == since {
            self.released.wait(&mut a);
        }
    }

    /// Waits for the discards that are to be done. All transactions have committed, or what new ones free is not waited for.
    pub(crate) fn wait_settled(&self) {
        let mut a = self.account.lock();
        a.settling += 1;
        while a.discarding > 0 {
            self.released.wait(&mut a);
        }
        a.settling -= 1;
        drop(a);
        self.released.notify_all();
    }

    /// Waits while somebody is in [`Space::wait_settled`]: between two discards, so that he is not passed over
    /// again and again.
    pub(crate) fn let_settle(&self) {
        let mut a = self.account.lock();
        while a.settling > 0 {
            self.released.wait(&mut a);
        }
    }
}
