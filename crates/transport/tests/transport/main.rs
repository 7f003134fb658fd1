//! Real endpoints over the loopback interface. One binary: it links once.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod connections;
mod failures;
mod hostile;
mod idle;
mod lanes;
mod stopped;
mod support;
