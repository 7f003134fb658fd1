//! From options to a joined mesh, and out of it again in time.

use std::time::Duration;

use peerchannel::{ChannelName, Config, Join, Mesh};
use tokio::time::timeout;

use crate::args::{MeshOptions, Preset, Settings};
use crate::credential::Credential;
use crate::failure::Failure;
use crate::signals::Stop;

/// How long a goodbye may take: leaving is promised within 2 s, and the process ends after it.
const LEAVE_TIME: Duration = Duration::from_millis(1800);

/// The channel that `--channel` names. To be checked before joining: nobody should see a
/// member come and go for a mistyped option.
pub(crate) fn channel_name(text: &str) -> Result<ChannelName, Failure> {
    ChannelName::new(text).map_err(|error| Failure::usage(format!("--channel {text:?}: {error}")))
}

/// Joins a mesh. `Ok(None)` if the process was told to stop meanwhile.
///
/// A mesh that nobody answers for is joined all the same: the node goes on looking.
pub(crate) async fn join(
    mesh: &str,
    options: MeshOptions,
    settings: &Settings,
    stop: &mut Stop,
) -> Result<Option<Mesh>, Failure> {
    let join = prepare(mesh, options, settings, stop).await?;
    tokio::select! {
        joined = join.into_future() => Ok(Some(joined?)),
        () = stop.requested() => Ok(None),
    }
}

async fn prepare(
    mesh: &str,
    options: MeshOptions,
    settings: &Settings,
    stop: &mut Stop,
) -> Result<Join, Failure> {
    let options = settings.complete(options);
    peerchannel::MeshName::new(mesh)
        .map_err(|error| Failure::usage(format!("mesh name {mesh:?}: {error}")))?;
    let mut join = Mesh::join(mesh).config(config(&options, settings));
    join = match Credential::find(mesh, &options, stop).await? {
        Credential::Open => join.open(),
        Credential::Password(password) => join.password(password),
    };
    if options.allow_weak_password {
        join = join.allow_weak_password();
    }
    if let Some(name) = options.name {
        if name.is_empty() {
            return Err(Failure::usage("--name \"\" is empty: leave it out to show none, or give one"));
        }
        peerchannel::MemberName::new(&name)
            .map_err(|error| Failure::usage(format!("--name {name:?}: {error}")))?;
        join = join.name(name);
    }
    if let Some(address) = options.listen {
        join = join.listen(address);
    }
    if let Some(path) = options.identity {
        join = join.identity(path);
    }
    if let Some(features) = options.features {
        join = join.offer(features);
    }
    for address in options.advertise {
        join = join.advertise(address);
    }
    for uri in options.resolver {
        // A ticket given here is checked like any other: for this mesh, not expired, signed.
        join = match uri.trim().strip_prefix("ticket:") {
            Some(ticket) => join.ticket(ticket),
            None => join.resolver(uri),
        };
    }
    Ok(join)
}

fn config(options: &MeshOptions, settings: &Settings) -> Config {
    let mut config = match options.preset {
        None | Some(Preset::Default) => Config::default(),
        Some(Preset::PeerChannel) => Config::peer_channel(),
    };
    settings.tuning.apply(&mut config);
    let mesh = &mut config.mesh;
    if let Some(min) = options.min_neighbors {
        mesh.neighbors_low = min;
    }
    if let Some(ideal) = options.ideal_neighbors {
        mesh.neighbors_target = ideal;
    }
    if let Some(max) = options.max_neighbors {
        mesh.neighbors_high = max;
        mesh.dialable_high = max;
    }
    mesh.echo |= options.echo;
    mesh.origin_auth &= !options.no_origin_auth;
    config
}

/// Says goodbye, within 2 s.
pub(crate) async fn leave(mesh: &Mesh) {
    if timeout(LEAVE_TIME, mesh.leave()).await.is_err() {
        // As where all leave at once: nobody is left to say goodbye to. What may be lost is told
        // by the mesh, message by message.
        tracing::info!("nobody answered the goodbye in time: the others notice by themselves");
    }
}
