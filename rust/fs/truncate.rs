use super::Inode;
use kernel::prelude::*;
pub(crate) fn setsize(_i: &Inode, _d: u64) -> Result { Ok(()) }
