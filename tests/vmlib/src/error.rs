// SPDX-License-Identifier: GPL-2.0

//! The error of a test: a sentence, and the errno when there is one.

use std::fmt;

/// Why a test case did not pass.
#[derive(Debug, Clone)]
pub struct Fail {
    /// What went wrong, for people.
    pub text: String,
    /// The errno of the system call that failed, if that is what happened.
    pub errno: Option<i32>,
    /// The case could not be run here; it neither passed nor failed.
    pub skip: bool,
}

/// Result of everything in the tests.
pub type Result<T = ()> = std::result::Result<T, Fail>;

impl Fail {
    /// A failure with only a text.
    pub fn new(text: impl Into<String>) -> Self {
        Fail {
            text: text.into(),
            errno: None,
            skip: false,
        }
    }

    /// Says that the case does not apply here.
    pub fn skip(text: impl Into<String>) -> Self {
        Fail {
            text: text.into(),
            errno: None,
            skip: true,
        }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fail {}

impl From<std::io::Error> for Fail {
    fn from(e: std::io::Error) -> Self {
        Fail {
            text: e.to_string(),
            errno: e.raw_os_error(),
            skip: false,
        }
    }
}

impl From<rustix::io::Errno> for Fail {
    fn from(e: rustix::io::Errno) -> Self {
        Fail {
            text: e.to_string(),
            errno: Some(e.raw_os_error()),
            skip: false,
        }
    }
}

impl From<String> for Fail {
    fn from(text: String) -> Self {
        Fail::new(text)
    }
}

impl From<&str> for Fail {
    fn from(text: &str) -> Self {
        Fail::new(text)
    }
}

/// Adds to an error what was being done.
pub trait Context<T> {
    /// Puts `what` before the text of the error.
    fn ctx(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Fail>> Context<T> for std::result::Result<T, E> {
    fn ctx(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| {
            let mut e: Fail = e.into();
            e.text = format!("{what}: {}", e.text);
            e
        })
    }
}

/// Fails the case with a formatted text unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($cond:expr, $($fmt:tt)+) => {
        if !$cond {
            return Err($crate::Fail::new(format!($($fmt)+)));
        }
    };
}

/// Fails the case unless the two values are equal; prints both.
#[macro_export]
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($fmt:tt)+) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err($crate::Fail::new(format!(
                "{}: {:?} is not {:?}", format!($($fmt)+), left, right)));
        }
    }};
}

/// Fails the case unless the call failed with this errno.
#[macro_export]
macro_rules! ensure_errno {
    ($call:expr, $errno:expr, $($fmt:tt)+) => {
        match $call {
            Ok(_) => return Err($crate::Fail::new(format!(
                "{}: worked, expected {:?}", format!($($fmt)+), $errno))),
            Err(e) => {
                let e: $crate::Fail = e.into();
                if e.errno != Some($errno.raw_os_error()) {
                    return Err($crate::Fail::new(format!(
                        "{}: got {e}, expected {:?}", format!($($fmt)+), $errno)));
                }
            }
        }
    };
}
