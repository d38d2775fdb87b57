// SPDX-License-Identifier: GPL-2.0

//! Whether the load gets on, by what it says: a filesystem that stands still keeps every promise.

use crate::log::Line;

/// Threads of the load that write files and sync them.
pub const WRITERS: u64 = 2;
/// The thread that changes names, which nobody syncs.
pub const SHUFFLER: u64 = WRITERS;
const THREADS: usize = WRITERS as usize + 1;

/// How far the load has come.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How often each thread has said that it goes on.
    alive: [u64; THREADS],
    /// An operation failed: there is no more to wait for.
    pub failed: bool,
}

impl Progress {
    /// What the guest has said so far.
    pub fn of(said: &str) -> Progress {
        let mut p = Progress::default();
        for l in said.lines().filter_map(|l| Line::parse(l.trim_end())) {
            match l {
                Line::Alive { thread } => {
                    if let Some(n) = p.alive.get_mut(thread as usize) {
                        *n += 1;
                    }
                }
                Line::Fail(_) => p.failed = true,
                _ => {}
            }
        }
        p
    }

    /// The threads that have not said that they go on since `before`.
    pub fn stuck_since(&self, before: &Progress) -> Vec<usize> {
        let same = |t: &usize| self.alive[*t] == before.alive[*t];
        (0..THREADS).filter(same).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_must_get_on() {
        let before = "CALF-CRASH-LOAD\r\nCRASH alive 0\r\nCRASH alive 2\r\nCRASH op 1 rm 2\r\n";
        let old = Progress::of(before);
        assert_eq!(old.stuck_since(&Progress::default()), [1]);
        let later = |more: &str| Progress::of(&format!("{before}{more}"));
        assert_eq!(later("").stuck_since(&old), [0, 1, 2]);
        // Operations that are only announced, and a line that the kill cut off, are no progress.
        assert_eq!(
            later("CRASH op 2 rm 1\nCRASH alive").stuck_since(&old),
            [0, 1, 2]
        );
        assert_eq!(
            later("CRASH alive 1\nCRASH alive 1\n").stuck_since(&old),
            [0, 2]
        );
        let all = later("CRASH alive 2\nCRASH alive 1\nCRASH alive 0\nCRASH alive 9\n");
        assert!(all.stuck_since(&old).is_empty() && !all.failed);
        assert!(later("CRASH fail write: no space\n").failed);
    }
}
