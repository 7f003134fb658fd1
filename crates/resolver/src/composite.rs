//! Several resolvers as one.

use std::sync::Arc;
use std::time::Duration;

use peerchannel_wire::MeshKey;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::ended::without_result;
use crate::resolver::{BoxFuture, Found, Lease, Registration, Resolver, ResolverError, sample};

/// How long one part may take. Longer than a directory's own time-out of 5 s, so that its
/// reason is seen; short enough for a person who waits for a join.
const PART_TIMEOUT: Duration = Duration::from_secs(6);

/// How long the others are waited for once one part has found somebody: the answers of a LAN
/// and of a directory on another continent both fit.
const LINGER: Duration = Duration::from_millis(300);

/// How soon a part that could not register is tried again while others could: the lease is
/// said to be so short that half of it is the 30 s after which an isolated node tries again.
const RETRY_LEASE: Duration = Duration::from_secs(60);

/// Asks several resolvers at once and merges what they say.
///
/// A part that fails or hangs disturbs nobody: it costs a log line, and its share of a
/// registration is tried again with the next refresh. Only if *all* parts fail is that an
/// error, the first part's. Nodes with a known id that several parts name are merged.
///
/// ```
/// use std::sync::Arc;
/// use peerchannel_resolver::{CompositeResolver, MeshKey, Resolver, StaticResolver};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dead = StaticResolver::new(["no-such-host.invalid:1".parse()?]);
/// let live = StaticResolver::new(["127.0.0.1:4000".parse()?]);
/// let both = CompositeResolver::new([Arc::new(dead) as Arc<dyn Resolver>, Arc::new(live)]);
/// assert_eq!(both.resolve(MeshKey::from_bytes([1; 32]), 10).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CompositeResolver {
    parts: Vec<Arc<dyn Resolver>>,
}

impl CompositeResolver {
    /// Joins these resolvers. Without any, nobody is ever found.
    #[must_use]
    pub fn new(parts: impl IntoIterator<Item = Arc<dyn Resolver>>) -> Self {
        Self { parts: parts.into_iter().collect() }
    }

    /// What it is made of, for `doctor`.
    #[must_use]
    pub fn parts(&self) -> &[Arc<dyn Resolver>] {
        &self.parts
    }

    /// Runs one call on every part at once, each within its time. The set aborts what still
    /// runs when it is dropped.
    fn ask<T: Send + 'static>(
        &self,
        call: impl Fn(Arc<dyn Resolver>) -> BoxFuture<'static, Result<T, ResolverError>>,
    ) -> JoinSet<(usize, Result<T, ResolverError>)> {
        let mut calls = JoinSet::new();
        for (index, part) in self.parts.iter().enumerate() {
            let what = part.describe();
            let answer = call(part.clone());
            calls.spawn(async move {
                let answer = timeout(PART_TIMEOUT, answer).await;
                (index, answer.unwrap_or(Err(ResolverError::TimedOut { what, after: PART_TIMEOUT })))
            });
        }
        calls
    }

    async fn resolve_all(&self, mesh: MeshKey, max: usize) -> Result<Vec<Found>, ResolverError> {
        let mut calls = self.ask(|part| Box::pin(async move { part.resolve(mesh, max).await }));
        let (mut found, mut answered, mut failures) = (Vec::new(), false, Failures::default());
        let mut deadline = None;
        loop {
            let next = match deadline {
                None => calls.join_next().await,
                // What is late is dropped with the set: a slow part must not delay a join.
                Some(deadline) => timeout_at(deadline, calls.join_next()).await.unwrap_or(None),
            };
            match next {
                Some(Ok((_, Ok(more)))) => {
                    answered = true;
                    merge(&mut found, more);
                    if !found.is_empty() {
                        deadline.get_or_insert_with(|| Instant::now() + LINGER);
                    }
                }
                Some(Ok((index, Err(error)))) => failures.add(&self.parts, index, error),
                Some(Err(error)) => failures.add_last(without_result("resolver", &error)),
                None => break,
            }
        }
        if answered { Ok(sample(found, max)) } else { failures.or(found) }
    }

    /// Registers with every part; the lease is the shortest.
    async fn announce(
        &self,
        call: impl Fn(Arc<dyn Resolver>) -> BoxFuture<'static, Result<Lease, ResolverError>>,
    ) -> Result<Lease, ResolverError> {
        let mut calls = self.ask(call);
        let (mut lease, mut failures) = (None::<Lease>, Failures::default());
        while let Some(call) = calls.join_next().await {
            match call {
                Ok((_, Ok(other))) => lease = Some(lease.map_or(other, |lease| shorter(lease, other))),
                Ok((index, Err(error))) => failures.add(&self.parts, index, error),
                Err(error) => failures.add_last(without_result("resolver", &error)),
            }
        }
        match lease {
            Some(lease) if failures.first.is_some() => Ok(shorter(lease, Lease::of(RETRY_LEASE))),
            Some(lease) => Ok(lease),
            None => failures.or(Lease::PERMANENT),
        }
    }
}

impl Resolver for CompositeResolver {
    fn resolve(&self, mesh: MeshKey, max: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>> {
        Box::pin(self.resolve_all(mesh, max))
    }

    fn describe(&self) -> String {
        let parts: Vec<String> = self.parts.iter().map(|part| part.describe()).collect();
        parts.join(" + ")
    }

    fn register<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        let registration = Arc::new(registration.clone());
        Box::pin(self.announce(move |part| {
            let registration = registration.clone();
            Box::pin(async move { part.register(&registration).await })
        }))
    }

    /// Refreshes with every part, and registers with those that do not know the registration.
    fn refresh<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        let registration = Arc::new(registration.clone());
        Box::pin(self.announce(move |part| {
            let registration = registration.clone();
            Box::pin(async move {
                match part.refresh(&registration).await {
                    Err(ResolverError::NotFound) => part.register(&registration).await,
                    answer => answer,
                }
            })
        }))
    }

    fn update<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        let registration = Arc::new(registration.clone());
        Box::pin(self.announce(move |part| {
            let registration = registration.clone();
            Box::pin(async move { part.update(&registration).await })
        }))
    }

    /// Unregisters with every part; fails only if all fail.
    fn unregister<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<(), ResolverError>> {
        let registration = Arc::new(registration.clone());
        let all = self.announce(move |part| {
            let registration = registration.clone();
            Box::pin(async move { part.unregister(&registration).await.map(|()| Lease::PERMANENT) })
        });
        Box::pin(async move { all.await.map(|_| ()) })
    }

    /// Only if every part allows it.
    fn can_share_referrals(&self) -> bool {
        self.parts.iter().all(|part| part.can_share_referrals())
    }
}

/// The errors of parts: logged, and the first part's kept.
#[derive(Default)]
struct Failures {
    first: Option<(usize, ResolverError)>,
}

impl Failures {
    fn add(&mut self, parts: &[Arc<dyn Resolver>], index: usize, error: ResolverError) {
        let resolver = parts.get(index).map(|part| part.describe()).unwrap_or_default();
        tracing::debug!(resolver, %error, "one of several resolvers failed");
        if self.first.as_ref().is_none_or(|(first, _)| index < *first) {
            self.first = Some((index, error));
        }
    }

    /// An error that says more about this process than about a part: any other comes first.
    fn add_last(&mut self, error: ResolverError) {
        self.first.get_or_insert((usize::MAX, error));
    }

    fn or<T>(self, otherwise: T) -> Result<T, ResolverError> {
        self.first.map_or(Ok(otherwise), |(_, error)| Err(error))
    }
}

fn shorter(a: Lease, b: Lease) -> Lease {
    match (a.lifetime, b.lifetime) {
        (Some(a), Some(b)) => Lease::of(a.min(b)),
        (Some(only), None) | (None, Some(only)) => Lease::of(only),
        (None, None) => Lease::PERMANENT,
    }
}

/// Adds `more` to `found`: one entry per node id, one per address list without an id.
fn merge(found: &mut Vec<Found>, more: Vec<Found>) {
    for other in more {
        let same = found.iter_mut().find(|one| match (one.node, other.node) {
            (Some(a), Some(b)) => a == b,
            (None, None) => one.addresses == other.addresses,
            _ => false,
        });
        match same {
            Some(one) => {
                for address in other.addresses {
                    if !one.addresses.contains(&address) {
                        one.addresses.push(address);
                    }
                }
                one.addresses.truncate(peerchannel_wire::limits::NODE_ADDRESSES_MAX);
            }
            None => found.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use peerchannel_wire::NodeId;

    use super::*;

    use crate::ended::tests::outlive_the_runtime;

    const MESH: MeshKey = MeshKey::from_bytes([1; 32]);

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn node(byte: u8, ports: &[u16]) -> Found {
        Found {
            node: Some(NodeId::from_bytes([byte; 32])),
            addresses: ports.iter().copied().map(at).collect(),
        }
    }

    fn registration() -> Registration {
        Registration { mesh: MESH, node: NodeId::from_bytes([7; 32]), addresses: vec![at(7)] }
    }

    /// Does what its fields say and writes down what it was asked.
    #[derive(Debug, Default)]
    struct Scripted {
        found: Vec<Found>,
        fails: bool,
        hangs: bool,
        lifetime: Option<Duration>,
        knows: Mutex<bool>,
        calls: Mutex<Vec<&'static str>>,
    }

    impl Scripted {
        async fn answer<T>(&self, call: &'static str, answer: T) -> Result<T, ResolverError> {
            self.calls.lock().unwrap().push(call);
            if self.hangs {
                std::future::pending::<()>().await;
            }
            if self.fails {
                return Err(ResolverError::Machine { reason: "scripted".into() });
            }
            Ok(answer)
        }

        fn calls(&self) -> Vec<&'static str> {
            self.calls.lock().unwrap().clone()
        }
    }

    impl Resolver for Scripted {
        fn resolve(&self, _: MeshKey, _: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>> {
            Box::pin(self.answer("resolve", self.found.clone()))
        }
        fn describe(&self) -> String {
            "scripted".into()
        }
        fn register<'a>(&'a self, _: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
            *self.knows.lock().unwrap() = !self.fails;
            Box::pin(self.answer("register", Lease { lifetime: self.lifetime }))
        }
        fn refresh<'a>(&'a self, _: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
            let knows = *self.knows.lock().unwrap();
            Box::pin(async move {
                let lease = self.answer("refresh", Lease { lifetime: self.lifetime }).await?;
                if knows { Ok(lease) } else { Err(ResolverError::NotFound) }
            })
        }
    }

    fn composite(parts: &[&Arc<Scripted>]) -> CompositeResolver {
        CompositeResolver::new(parts.iter().map(|&part| part.clone() as Arc<dyn Resolver>))
    }

    #[tokio::test]
    async fn answers_are_merged_by_node() {
        let one =
            Arc::new(Scripted { found: vec![node(1, &[1, 2]), Found::at(at(9))], ..Default::default() });
        let two = Arc::new(Scripted {
            found: vec![node(1, &[2, 3]), node(2, &[4]), Found::at(at(9))],
            ..Default::default()
        });
        let mut found = composite(&[&one, &two]).resolve(MESH, 9).await.unwrap();
        found.sort_by_key(|f| f.node);
        for f in &mut found {
            f.addresses.sort();
        }
        assert_eq!(found, [Found::at(at(9)), node(1, &[1, 2, 3]), node(2, &[4])]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_and_a_hanging_part_do_not_disturb_a_live_one() {
        let dead = Arc::new(Scripted { fails: true, ..Default::default() });
        let hanging = Arc::new(Scripted { hangs: true, ..Default::default() });
        let live = Arc::new(Scripted { found: vec![node(1, &[1])], ..Default::default() });
        let start = Instant::now();
        let found = composite(&[&dead, &hanging, &live]).resolve(MESH, 9).await.unwrap();
        assert_eq!(found, [node(1, &[1])]);
        assert!(start.elapsed() <= LINGER, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn it_fails_only_if_all_parts_fail() {
        let dead = Arc::new(Scripted { fails: true, ..Default::default() });
        let hanging = Arc::new(Scripted { hangs: true, ..Default::default() });
        let error = composite(&[&hanging, &dead]).resolve(MESH, 9).await.unwrap_err();
        assert!(matches!(error, ResolverError::TimedOut { .. }), "the first part's: {error}");
        let empty = Arc::new(Scripted::default());
        assert_eq!(composite(&[&dead, &empty]).resolve(MESH, 9).await, Ok(vec![]));
        assert_eq!(composite(&[]).resolve(MESH, 9).await, Ok(vec![]));
    }

    #[test]
    fn a_runtime_that_ends_during_a_call_is_no_fault() {
        let part = Arc::new(Scripted::default());
        let resolver = composite(&[&part, &part]);
        let (found, errors) = outlive_the_runtime(resolver.resolve(MESH, 9));
        assert!(matches!(found, Err(ResolverError::Machine { .. })), "{found:?}");
        assert_eq!(errors, [""; 0]);
        let registration = registration();
        let (lease, errors) = outlive_the_runtime(resolver.register(&registration));
        assert!(matches!(lease, Err(ResolverError::Machine { .. })), "{lease:?}");
        assert_eq!(errors, [""; 0]);
    }

    #[tokio::test]
    async fn the_shortest_lease_counts() {
        let permanent = Arc::new(Scripted::default());
        let long = Arc::new(Scripted { lifetime: Some(Duration::from_secs(600)), ..Default::default() });
        let short = Arc::new(Scripted { lifetime: Some(Duration::from_secs(100)), ..Default::default() });
        let lease = composite(&[&permanent, &long, &short]).register(&registration()).await;
        assert_eq!(lease, Ok(Lease::of(Duration::from_secs(100))));
    }

    #[tokio::test]
    async fn a_part_that_could_not_register_is_registered_at_the_next_refresh() {
        let lifetime = Some(Duration::from_secs(600));
        let good = Arc::new(Scripted { lifetime, ..Default::default() });
        let bad = Arc::new(Scripted { lifetime, fails: true, ..Default::default() });
        let lease = composite(&[&good, &bad]).register(&registration()).await;
        assert_eq!(lease, Ok(Lease::of(RETRY_LEASE)), "soon tried again");

        let healed = Arc::new(Scripted { lifetime, ..Default::default() });
        let lease = composite(&[&good, &healed]).refresh(&registration()).await;
        assert_eq!(lease, Ok(Lease::of(Duration::from_secs(600))));
        assert_eq!(good.calls(), ["register", "refresh"]);
        assert_eq!(healed.calls(), ["refresh", "register"]);
    }
}
