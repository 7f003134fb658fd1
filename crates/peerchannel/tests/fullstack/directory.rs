//! A directory in memory: what the simulator's resolver does, as a `Resolver`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peerchannel::NodeId;
use peerchannel::resolver::{BoxFuture, Found, Lease, MeshKey, Registration, Resolver, ResolverError};
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;

/// Nodes in one answer.
pub(crate) const ANSWERS: usize = 8;

/// How long an answer takes.
pub(crate) const DELAY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub(crate) struct Directory {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    nodes: BTreeMap<NodeId, Registration>,
    chance: ChaCha8Rng,
}

impl Directory {
    pub(crate) fn new(chance: ChaCha8Rng) -> Self {
        Self { state: Arc::new(Mutex::new(State { nodes: BTreeMap::new(), chance })) }
    }
}

impl Resolver for Directory {
    fn resolve(&self, _: MeshKey, max: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>> {
        Box::pin(async move {
            tokio::time::sleep(DELAY).await;
            let mut state = self.state.lock().unwrap();
            let State { nodes, chance } = &mut *state;
            let chosen = nodes.values().sample(chance, max.min(ANSWERS));
            let found = |r: &Registration| Found { node: Some(r.node), addresses: r.addresses.clone() };
            Ok(chosen.into_iter().map(found).collect())
        })
    }

    fn describe(&self) -> String {
        "a directory in memory".to_owned()
    }

    fn register<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        Box::pin(async move {
            self.state.lock().unwrap().nodes.insert(registration.node, registration.clone());
            Ok(Lease::PERMANENT)
        })
    }

    fn unregister<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<(), ResolverError>> {
        Box::pin(async move {
            self.state.lock().unwrap().nodes.remove(&registration.node);
            Ok(())
        })
    }
}
