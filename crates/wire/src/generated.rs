//! The prost types of `proto/`. Private: everything beyond this crate is a domain type.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

include!("generated/peerchannel.v1.rs");
