//! Who may join a Peer Channel mesh and who said it: identity, admission, signatures, TLS.

mod admission;
mod durable;
mod epoch;
mod identity;
mod identity_file;
mod mesh_id;
mod pake;
mod password;
mod tls;
mod verify;

pub use admission::{
    ADMISSION_DEADLINE, Admission, Admitted, Context, EXPORTER_LABEL, Gate, Offer, Opener, Output, Reception,
    Refused, RefusedBy, Responder,
};
pub use identity::{Identity, IdentityError};
pub use identity_file::{EphemeralEpochs, EpochSource, IdentityFile};
pub use mesh_id::{mesh_id, mesh_tag, resolver_key};
pub use password::{
    PASSWORD_BITS_MIN, PASSWORD_BYTES_MAX, Password, PasswordError, StretchError, StretchedPassword,
};
pub use tls::{PresentedNode, Tls, TlsError, node_id_from_spki};
pub use verify::verify;
