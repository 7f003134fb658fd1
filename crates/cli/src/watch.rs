//! Watching a mesh while a command waits: telling what is in the way, and giving up where
//! waiting cannot help.

use std::time::Duration;

use peerchannel::{Events, Mesh, MeshEvent, Refusal, ResolverInfo};
use tokio::time::{Instant, sleep_until, timeout};

use crate::args::duration_text;
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
                    return Failure::runtime(format!("{text}; {WRONG_PASSWORD}: try again with that"));
                }
            }
        }
    }
}

/// How long a node that goes on looking is silent about having found nobody: most meshes are
/// found within a second, and what multicast and directories take is over by then.
pub(crate) const ALONE_TIME: Duration = Duration::from_secs(10);

/// Resolves when nobody was found for [`ALONE_TIME`]; never if somebody is.
pub(crate) async fn still_alone(mesh: &Mesh) {
    if timeout(ALONE_TIME, mesh.wait_online()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// The failure of a command that found nobody of a mesh, with what is known about why.
pub(crate) async fn nobody(mesh: &Mesh, waited: Duration) -> Failure {
    let name = mesh.mesh_name();
    Failure::runtime(format!(
        "{}. Is a node running, with the same password, where --resolver looks? `peerchannel doctor {name}` \
         may know more",
        nobody_text(mesh, waited).await
    ))
}

/// That nobody was found, and who was asked.
pub(crate) async fn nobody_text(mesh: &Mesh, waited: Duration) -> String {
    let resolvers = mesh.status().await.map(|status| status.resolvers).unwrap_or_default();
    let asked: Vec<String> = resolvers
        .into_iter()
        .map(|ResolverInfo { resolver, error, .. }| match error {
            Some(error) if error.starts_with(&resolver) => error,
            Some(error) => format!("{resolver} ({error})"),
            None => resolver,
        })
        .collect();
    format!(
        "nobody of the mesh {:?} was found within {}; asked: {}",
        mesh.mesh_name().as_str(),
        duration_text(waited),
        asked.join(", ")
    )
}
