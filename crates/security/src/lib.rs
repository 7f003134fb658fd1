//! Who may join a Peer Channel mesh and who said it: identity, admission, signatures, TLS.

mod durable;
mod epoch;
mod identity;
mod identity_file;
#[allow(dead_code)] // Exporter contexts: used by the admission machine.
mod mesh_id;
#[allow(dead_code)] // Used by the admission machine.
mod pake;
mod password;
mod verify;

pub use identity::{Identity, IdentityError};
pub use identity_file::{EphemeralEpochs, EpochSource, IdentityFile};
pub use mesh_id::{mesh_id, mesh_tag, resolver_key};
pub use password::{
    PASSWORD_BITS_MIN, PASSWORD_BYTES_MAX, Password, PasswordError, StretchError, StretchedPassword,
};
pub use verify::verify;
