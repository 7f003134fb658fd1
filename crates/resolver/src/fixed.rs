//! The static resolver: addresses that somebody wrote down.

use std::fmt::Write as _;

use peerchannel_wire::MeshKey;
use tokio::task::JoinSet;

use crate::ended::without_result;
use crate::host::HostPort;
use crate::resolver::{BoxFuture, Found, Resolver, ResolverError, sample};

/// Knows a fixed list of hosts; the same for every mesh. Announces nothing.
///
/// Host names are looked up at every call, all at once, so that a host that moved is found
/// again; one that does not resolve does not disturb the others.
///
/// ```
/// use peerchannel_resolver::{MeshKey, Resolver, StaticResolver};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let resolver = StaticResolver::new(["127.0.0.1:4000".parse()?, "localhost:4001".parse()?]);
/// let found = resolver.resolve(MeshKey::from_bytes([1; 32]), 10).await?;
/// assert_eq!(found.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StaticResolver {
    hosts: Vec<HostPort>,
}

impl StaticResolver {
    /// Knows these hosts.
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = HostPort>) -> Self {
        Self { hosts: hosts.into_iter().collect() }
    }

    async fn lookup_all(&self, max: usize) -> Result<Vec<Found>, ResolverError> {
        // At most as many tasks as the user wrote hosts; the set aborts them when dropped.
        let mut lookups = JoinSet::new();
        for host in self.hosts.iter().cloned() {
            lookups.spawn(async move { (host.lookup().await, host) });
        }
        let (mut found, mut failure) = (Vec::new(), None);
        while let Some(lookup) = lookups.join_next().await {
            match lookup {
                Ok((Ok(addresses), _)) => found.push(Found { node: None, addresses }),
                Ok((Err(reason), host)) => {
                    tracing::debug!(%host, %reason, "a static address does not resolve");
                    failure
                        .get_or_insert_with(|| ResolverError::Unreachable { what: host.to_string(), reason });
                }
                Err(error) => {
                    failure.get_or_insert(without_result("look-up", &error));
                }
            }
        }
        match failure {
            Some(failure) if found.is_empty() => Err(failure),
            _ => Ok(sample(found, max)),
        }
    }
}

impl Resolver for StaticResolver {
    fn resolve(&self, _mesh: MeshKey, max: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>> {
        Box::pin(self.lookup_all(max))
    }

    fn describe(&self) -> String {
        let mut text = String::from("static list");
        for (index, host) in self.hosts.iter().enumerate() {
            let _ = write!(text, "{} {host}", if index == 0 { ":" } else { "," });
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::ended::tests::outlive_the_runtime;

    const MESH: MeshKey = MeshKey::from_bytes([1; 32]);

    fn resolver(hosts: &[&str]) -> StaticResolver {
        StaticResolver::new(hosts.iter().map(|host| host.parse().unwrap()))
    }

    #[tokio::test]
    async fn a_bad_host_does_not_hide_a_good_one() {
        let found = resolver(&["no-such-host.invalid:1", "127.0.0.1:2"]).resolve(MESH, 9).await.unwrap();
        assert_eq!(found, [Found::at("127.0.0.1:2".parse().unwrap())]);
    }

    #[tokio::test]
    async fn it_fails_if_nothing_resolves() {
        let error = resolver(&["no-such-host.invalid:1"]).resolve(MESH, 9).await.unwrap_err();
        assert!(matches!(error, ResolverError::Unreachable { what, .. } if what == "no-such-host.invalid:1"));
    }

    #[test]
    fn a_runtime_that_ends_during_a_look_up_is_no_fault() {
        let resolver = resolver(&["127.0.0.1:1", "127.0.0.1:2"]);
        let (ended, errors) = outlive_the_runtime(resolver.resolve(MESH, 9));
        assert!(matches!(ended, Err(ResolverError::Machine { .. })), "{ended:?}");
        assert_eq!(errors, [""; 0]);
    }

    #[tokio::test]
    async fn no_more_than_asked_for_are_returned() {
        let resolver = resolver(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        assert_eq!(resolver.resolve(MESH, 2).await.unwrap().len(), 2);
        assert_eq!(resolver.resolve(MESH, 0).await.unwrap(), []);
        assert_eq!(resolver.describe(), "static list: 127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3");
    }
}
