use kernel::prelude::*;
#[pin_data]
pub(crate) struct Completion { x: u32 }
impl Completion { pub(crate) fn new() -> impl PinInit<Self> { pin_init!(Self { x: 0 }) } }
