//! Starting a driver: everything that can fail about a join, before its task runs.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use peerchannel_mesh::{Filter, Me};
use peerchannel_resolver::{Announcement, CompositeResolver, MeshKey, Registration, keep_registered};
use peerchannel_security::{Admission, Password, StretchedPassword, mesh_id, resolver_key};
use peerchannel_wire::{CredentialKind, MemberName, MeshName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::anchors::Anchors;
use super::clock::Clock;
use super::links::Links;
use super::publish::Publishing;
use super::unanswered::Unanswered;
use super::{COMMANDS_MAX, Driver, INBOX_MAX};
use crate::addresses;
use crate::config::Config;
use crate::error::JoinError;
use crate::filter::Guarded;
use crate::invite::wall_ms;
use crate::mesh::{Facts, Mesh};
use crate::node::{MeshEntry, Node, Reservation, blocking};
use crate::registry::Registry;
use crate::resolvers::{CheckedChoice, Health};

/// A join with its options checked.
pub(crate) struct Plan {
    pub(crate) mesh: MeshName,
    pub(crate) name: MemberName,
    /// The mesh's password; without one it is open.
    pub(crate) password: Option<Password>,
    pub(crate) resolvers: Vec<CheckedChoice>,
    pub(crate) filter: Option<Box<dyn Filter>>,
    pub(crate) config: Config,
    /// The node closes with the mesh.
    pub(crate) private: bool,
}

/// Joins: from here on the node is in the mesh and looks for others.
///
/// Dropping the future joins nothing; an epoch may be used up.
pub(crate) async fn start(node: Node, plan: Plan) -> Result<Mesh, JoinError> {
    let kind = if plan.password.is_some() { CredentialKind::Password } else { CredentialKind::Open };
    let mesh = mesh_id(&plan.mesh, kind);
    let reservation = Reservation::new(&node, mesh, &plan.mesh)?;
    let registry = Arc::new(Registry::new(plan.config.queue_limits()));
    let health = Health::new(registry.clone());
    let mut resolvers = Vec::new();
    for choice in plan.resolvers {
        resolvers.push(health.watch(choice.open(&node.state().identity)?));
    }
    let admission = match plan.password {
        None => Admission::open(&plan.mesh),
        Some(password) => Admission::password(stretch(password, plan.mesh.clone()).await?),
    };
    let epoch = node.next_epoch(mesh).await?;

    let state = node.state().clone();
    let addresses = addresses::advertised(&state.advertise, state.local_address);
    let me = Me {
        mesh,
        node: state.id,
        epoch,
        name: plan.name.clone(),
        addresses: addresses.clone(),
        wall_ms: wall_ms(),
    };
    let clock = Clock::new();
    let now = clock.now();
    let mut core = peerchannel_mesh::Node::new(plan.config.mesh, me, rand::random(), now)?;
    let anchors = if node.has_file() {
        let anchors = node.anchors(mesh).await;
        core.add_anchors(now, anchors.clone());
        Some(Anchors::new(anchors))
    } else {
        None
    };
    let filter_panics = Arc::new(AtomicU64::new(0));
    core.set_filter(plan.filter.map(|filter| Guarded::boxed(filter, &filter_panics)));

    let key = MeshKey::from_bytes(resolver_key(&mesh));
    let (announced, heard) = watch::channel(Announcement { addresses: addresses.clone(), wakes: 0 });
    let registration = Registration { mesh: key, node: state.id, addresses: addresses.clone() };
    let mut registrars = JoinSet::new();
    for resolver in &resolvers {
        // The resolver's health tells how it goes.
        let told = |_, _: &_| {};
        registrars.spawn(keep_registered(resolver.clone(), registration.clone(), heard.clone(), told));
    }

    let facts = Arc::new(Facts {
        mesh_name: plan.mesh,
        mesh,
        node: state.id,
        name: plan.name,
        epoch,
        local_address: state.local_address,
    });
    let (commands_in, commands) = mpsc::channel(COMMANDS_MAX);
    let (inbox_in, inbox) = mpsc::channel(INBOX_MAX);
    let (online, is_online) = watch::channel(false);
    reservation.open(MeshEntry {
        admission: admission.clone(),
        inbox: inbox_in.clone(),
        registry: registry.clone(),
    });
    let entry = Arc::new(MeshEntry { admission, inbox: inbox_in, registry: registry.clone() });
    let driver = Driver {
        core,
        clock,
        now,
        node,
        private: plan.private,
        reservation,
        entry,
        facts: facts.clone(),
        registry: registry.clone(),
        commands,
        abandoned: false,
        inbox,
        links_first: false,
        tasks: JoinSet::new(),
        purposes: HashMap::new(),
        links: Links::default(),
        next_link: 1,
        pending: VecDeque::new(),
        jobs: VecDeque::new(),
        publishing: Publishing::default(),
        publish_ready: false,
        unanswered: Unanswered::default(),
        directs: HashMap::new(),
        online,
        addresses,
        announced: Some(announced),
        network: state.network.subscribe(),
        registrars,
        resolver: Arc::new(CompositeResolver::new(resolvers)),
        key,
        health,
        anchors,
        filter_panics,
        filter_panics_told: 0,
        leaving: None,
        left: false,
    };
    tracing::info!(mesh = %facts.mesh_name, node = %facts.node.short(), epoch = epoch.get(), "joined");
    // Ends with the last handle or by leaving; ends everything it owns before.
    tokio::spawn(driver.run());
    Ok(Mesh::new(facts, commands_in, registry, is_online))
}

/// Takes about 0.2 s and 64 MiB, off the executor.
async fn stretch(password: Password, name: MeshName) -> Result<StretchedPassword, JoinError> {
    let stretched = blocking(move || StretchedPassword::stretch(&password, &name)).await;
    Ok(stretched.map_err(crate::error::StartError::from)??)
}
