//! The frames of the wire protocol: golden bytes, hostile bytes, and round trips.

// The workspace allows these in tests; clippy sees that only inside `#[test]` functions.
#![allow(clippy::unwrap_used, clippy::panic)]

mod corpus;
mod golden;
mod hostile;
mod roundtrip;
