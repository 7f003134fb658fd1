//! Who may join a Peer Channel mesh and who said it: identity, admission, signatures, TLS.

mod identity;

pub use identity::Identity;
