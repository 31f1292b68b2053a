//! The command `unlearn`.
fn main() {}
