//! Watching a mesh while a command waits: telling what is in the way, and giving up where
//! waiting cannot help.

use std::time::Duration;

use peerchannel::{Events, Mesh, MeshEvent, Refusal};
use tokio::time::{Instant, sleep_until};

use crate::failure::Failure;
use crate::notes::{Notes, WRONG_PASSWORD};

/// How long a node that was refused waits for another that takes it: one with the same mesh
/// name and another password must not keep others apart.
pub(crate) const REFUSED_GRACE: Duration = Duration::from_secs(1);

/// Tells on stderr why nobody answers. Ends only with a password that is not the mesh's.
pub(crate) async fn watch(mesh: &Mesh, mut events: Events) -> Failure {
    let mut notes = Notes::default();
    let mut refused: Option<(Instant, String)> = None;
    loop {
        let due = async {
            match &refused {
                Some((due, _)) => sleep_until(*due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = events.next() => match event {
                None => std::future::pending().await,
                Some(MeshEvent::Online) => refused = None,
                Some(event @ MeshEvent::Refused { reason: Refusal::BadCredential, .. }) => {
                    if refused.is_none() && !mesh.is_online() {
                        refused = Some((Instant::now() + REFUSED_GRACE, event.to_string()));
                    }
                }
                Some(event) => notes.tell(&event),
            },
            () = due => {
                if let Some((_, text)) = refused.take()
                    && !mesh.is_online()
                {
                    return Failure::runtime(format!("{text}; {WRONG_PASSWORD}"));
                }
            }
        }
    }
}

/// The failure of a command that found nobody of a mesh, with what is known about why.
pub(crate) async fn nobody(mesh: &Mesh, waited: Duration) -> Failure {
    let name = mesh.mesh_name();
    let mut text = format!("nobody of the mesh {:?} answered within {waited:?}", name.as_str());
    let mut silent = false;
    if let Ok(status) = mesh.status().await {
        for resolver in status.resolvers {
            if let Some(error) = resolver.error {
                silent = true;
                text += &format!("; resolver {} does not answer: {error}", resolver.resolver);
            }
        }
    }
    text += if silent {
        ": is it running there?"
    } else {
        ": is a node running, with the same password, where --resolver looks?"
    };
    Failure::runtime(format!("{text} `peerchannel doctor {name}` may know more"))
}
