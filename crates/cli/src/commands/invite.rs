//! `invite`: a ticket that names nodes of a mesh.

use crate::args::{InviteArgs, Settings};
use crate::commands::look;
use crate::failure::{Failure, with_causes};
use crate::output::say;
use crate::session;
use crate::signals::Stop;

/// Joins for a moment, so that the ticket names nodes that are there, and prints it.
pub(super) async fn run(args: InviteArgs, settings: &Settings, mut stop: Stop) -> Result<(), Failure> {
    let Some(mesh) = session::join(&args.mesh, args.options, settings, &mut stop).await? else {
        return Ok(());
    };
    let found = tokio::select! {
        found = look::found(&mesh, args.timeout) => found,
        () = stop.requested() => {
            session::leave(&mesh).await;
            return Ok(());
        }
    };
    // Alone, the ticket would name this process, which is gone in a moment.
    let ticket = match found {
        Ok(()) => mesh.invite(args.lifetime).await.map_err(|error| Failure::runtime(with_causes(&error))),
        Err(failure) => Err(failure),
    };
    session::leave(&mesh).await;
    say(&ticket?)
}
