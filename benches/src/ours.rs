//! Two members of a mesh on loopback, through the facade: what an application has.

use peerchannel::{Channel, Config, Mesh, Subscription};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Two linked members and a channel.
#[derive(Debug)]
pub struct Pair {
    /// The first member's end.
    pub here: Channel,
    /// What the second member publishes.
    pub heard_here: Subscription,
    /// The second member's end.
    pub there: Channel,
    /// What the first member publishes.
    pub heard_there: Subscription,
    _meshes: (Mesh, Mesh),
}

impl Pair {
    /// Joins both and waits until they are linked.
    ///
    /// # Errors
    /// Whatever keeps loopback from working.
    pub async fn join(origin_auth: bool) -> Result<Self, Failure> {
        let mut config = Config::default();
        config.mesh.origin_auth = origin_auth;
        let join = |resolver: String| {
            Mesh::join("bench")
                .open()
                .listen(([127, 0, 0, 1], 0).into())
                .resolver(resolver)
                .config(config.clone())
        };
        let first = join("static:127.0.0.1:9".into()).await?;
        let second = join(format!("static:{}", first.local_address())).await?;
        first.wait_online().await?;
        second.wait_online().await?;
        let (here, there) = (first.channel("bench"), second.channel("bench"));
        let (heard_here, heard_there) = (here.subscribe(), there.subscribe());
        // The link that stays is the one the first answer comes by.
        here.publish("ready").await?.committed().await?;
        let mut pair = Self { here, heard_here, there, heard_there, _meshes: (first, second) };
        pair.heard_there.next().await;
        Ok(pair)
    }
}
