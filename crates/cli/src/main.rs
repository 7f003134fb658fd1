//! The `peerchannel` command.

fn main() {}
