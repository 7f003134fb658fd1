//! `resolver serve`: the directory service.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use peerchannel::Identity;
use peerchannel_resolver_service::{
    DurableStore, MemoryStore, RegistryConfig, ServeError, Server, ServerConfig,
};
use serde_json::json;

use crate::args::ServeArgs;
use crate::failure::{Failure, with_causes};
use crate::output::say;
use crate::signals::Stop;

/// The word that stands for a store that keeps nothing.
const MEMORY: &str = "memory";

/// Serves until it is told to stop.
pub(super) async fn serve(args: ServeArgs, mut stop: Stop) -> Result<(), Failure> {
    let mut registry = RegistryConfig::default();
    if let Some(lease) = args.refresh {
        registry.lifetime = lease;
    }
    registry.control_mesh_shape = args.control_shape;
    let mut config = ServerConfig::default();
    config.listen = args.listen;
    config.registry = registry;
    let identity = identity(&args)?;
    let started = if args.store == MEMORY {
        Server::start(&identity, config, MemoryStore).await
    } else {
        let path = PathBuf::from(&args.store);
        let store = DurableStore::open(&path).map_err(|error| {
            Failure::runtime(format!("--store {}: {}", path.display(), with_causes(&error)))
        })?;
        Server::start(&identity, config, store).await
    };
    let server = started.map_err(|error: ServeError| Failure::runtime(with_causes(&error)))?;
    let uri = format!("service:{}@{}", server.node_id(), server.local_address());
    if args.json {
        let ready = json!({
            "event": "listening",
            "node": server.node_id().to_string(),
            "addr": server.local_address(),
            "resolver": uri,
            "registrations": server.metrics().registrations,
        });
        say(&ready.to_string())?;
    } else {
        say(&uri)?;
    }
    stop.requested().await;
    server.shutdown().await;
    if args.json { say(&json!({ "event": "left" }).to_string()) } else { Ok(()) }
}

/// The directory's key: clients that know it are sure to talk to this directory, so it is
/// kept where the registrations are kept.
fn identity(args: &ServeArgs) -> Result<Identity, Failure> {
    let path = match &args.identity {
        Some(path) => path.clone(),
        None if args.store == MEMORY => return Ok(Identity::generate()),
        None => beside(Path::new(&args.store)),
    };
    if path.exists() {
        return Ok(Identity::load(&path)?);
    }
    let identity = Identity::generate();
    identity.save_new(&path)?;
    Ok(identity)
}

fn beside(store: &Path) -> PathBuf {
    let mut name = OsString::from(store);
    name.push(".key");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_lies_beside_the_store() {
        assert_eq!(beside(Path::new("a/b.db")), Path::new("a/b.db.key"));
    }
}
