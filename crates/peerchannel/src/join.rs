//! Joining a mesh: the options, and what happens when they are awaited.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use peerchannel_mesh::Filter;
use peerchannel_resolver::Resolver;
use peerchannel_security::{Identity, Password};
use peerchannel_transport::DatagramSocket;
use peerchannel_wire::{Features, MemberName, MeshName};

use crate::config::Config;
use crate::driver;
use crate::error::JoinError;
use crate::mesh::Mesh;
use crate::node::{Node, NodeOptions};
use crate::resolvers::ResolverChoice;

/// How to join a mesh: options, then `.await`.
///
/// One of [`password`](Self::password) and [`open`](Self::open) must be chosen; everything
/// else has a good default. The join succeeds without any other node: it goes on looking for
/// the mesh until it is left, and [`MeshEvent`](crate::MeshEvent)s say how that goes.
///
/// ```no_run
/// # async fn example() -> peerchannel::Result<()> {
/// let mesh = peerchannel::Mesh::join("kitchen")
///     .password("violet anchor tundra pickle orbit lamp")
///     .name("ann")
///     .resolver("static:192.0.2.7:4000")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a join does nothing until it is awaited"]
pub struct Join {
    mesh: String,
    node: Option<Node>,
    options: NodeOptions,
    // The first option given that only a node of one's own can take.
    option_of_node: Option<&'static str>,
    password: Option<String>,
    allow_weak_password: bool,
    open: bool,
    resolvers: Vec<ResolverChoice>,
    name: String,
    filter: Option<Box<dyn Filter>>,
    config: Config,
    echo: Option<bool>,
}

impl Join {
    pub(crate) fn new(mesh: String, node: Option<Node>) -> Self {
        Self {
            mesh,
            node,
            options: NodeOptions::new(),
            option_of_node: None,
            password: None,
            allow_weak_password: false,
            open: false,
            resolvers: Vec::new(),
            name: String::new(),
            filter: None,
            config: Config::default(),
            echo: None,
        }
    }

    /// The mesh's password, taken literally. Nodes with another one are refused, and refuse
    /// this one; nothing about it can be tried offline. Below 40 bits of estimated strength it
    /// is not accepted: use six random words.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Accepts a password that is easy to guess: for demos and closed networks.
    pub fn allow_weak_password(mut self) -> Self {
        self.allow_weak_password = true;
        self
    }

    /// A mesh without a credential: whoever knows its name is a member. It is another mesh
    /// than one of the same name with a password.
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// The file of the node's identity, created if it is missing and locked while in use. By
    /// default the node gets a new identity for each process.
    pub fn identity(mut self, path: impl Into<PathBuf>) -> Self {
        self.options = self.options.identity(path);
        self.of_node("identity")
    }

    /// An identity that the program keeps itself. Its epochs follow the clock: after a restart
    /// with a clock that was set back, other members refuse it as stale.
    pub fn identity_key(mut self, identity: Identity) -> Self {
        self.options = self.options.identity_key(identity);
        self.of_node("identity_key")
    }

    /// A ticket: it says where nodes of the mesh can be found, and which mesh is meant. The
    /// mesh's credential is still needed. May be given repeatedly.
    pub fn ticket(mut self, ticket: impl Into<String>) -> Self {
        self.resolvers.push(ResolverChoice::Ticket(ticket.into()));
        self
    }

    /// Where to look for other nodes: `lan`, `static:ADDR[,ADDR...]`, `ticket:TICKET` or
    /// `service:[NODEKEY@]ADDR[,...]`. May be given repeatedly: all are asked. The default is
    /// `lan`, or only the tickets where some were given.
    pub fn resolver(mut self, uri: impl Into<String>) -> Self {
        self.resolvers.push(ResolverChoice::Uri(uri.into()));
        self
    }

    /// A resolver of one's own. May be given repeatedly, and together with others.
    pub fn custom_resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolvers.push(ResolverChoice::Custom(Arc::new(resolver)));
        self
    }

    /// Where to listen, as `127.0.0.1:4000`; port 0 is any. Default: any port of all
    /// interfaces.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.options = self.options.listen(address);
        self.of_node("listen")
    }

    /// A socket to use in place of one of the system's: a proxy, a tunnel, a simulated network.
    /// See [`NodeOptions::socket`].
    pub fn socket(mut self, socket: impl DatagramSocket) -> Self {
        self.options = self.options.socket(socket);
        self.of_node("socket")
    }

    /// An address under which others can dial this node, instead of the ones of its
    /// interfaces: for a forwarded port. May be given repeatedly.
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.options = self.options.advertise(address);
        self.of_node("advertise")
    }

    /// The optional features this node offers to others; see [`NodeOptions::offer`].
    pub fn offer(mut self, features: Features) -> Self {
        self.options = self.options.offer(features);
        self.of_node("offer")
    }

    /// The name this node shows to people: at most 64 bytes of UTF-8, not unique. Default:
    /// none, and the first digits of its id are shown.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The propagation filter: decides about every message, once, whether it is delivered
    /// here and whether it is passed on. It runs on the path of every message: be quick.
    pub fn filter(mut self, filter: impl Filter + 'static) -> Self {
        self.filter = Some(Box::new(filter));
        self
    }

    /// How the node behaves in this mesh.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Whether own messages are delivered back to this node. Default: as the configuration
    /// says, which is no.
    pub fn echo(mut self, echo: bool) -> Self {
        self.echo = Some(echo);
        self
    }

    fn of_node(mut self, option: &'static str) -> Self {
        self.option_of_node.get_or_insert(option);
        self
    }

    async fn join(mut self) -> Result<Mesh, JoinError> {
        let mesh = MeshName::new(&self.mesh)?;
        let name = MemberName::new(&self.name)?;
        let password = self.credential(&mesh)?;
        if let Some(echo) = self.echo {
            self.config.mesh.echo = echo;
        }
        self.config.validate()?;
        if self.resolvers.is_empty() {
            self.resolvers.push(ResolverChoice::Uri("lan".to_owned()));
        }
        let resolvers: Result<_, _> = self.resolvers.into_iter().map(|choice| choice.check(&mesh)).collect();
        let resolvers = resolvers?;
        let private = self.node.is_none();
        let node = match (self.node, self.option_of_node) {
            (Some(_), Some(option)) => return Err(JoinError::OptionOfNode { option }),
            (Some(node), None) => node,
            (None, _) => self.options.start().await?,
        };
        let (filter, config) = (self.filter, self.config);
        driver::start(node, driver::Plan { mesh, name, password, resolvers, filter, config, private }).await
    }

    /// The mesh's password; `None` if it is open.
    fn credential(&self, mesh: &MeshName) -> Result<Option<Password>, JoinError> {
        match (&self.password, self.open) {
            (Some(_), true) => Err(JoinError::TwoCredentials),
            (None, true) => Ok(None),
            (None, false) => Err(JoinError::NoCredential { mesh: mesh.as_str().to_owned() }),
            (Some(text), false) => {
                let password = Password::new(text)?;
                if !self.allow_weak_password {
                    password.check_strength()?;
                }
                Ok(Some(password))
            }
        }
    }
}

impl IntoFuture for Join {
    type Output = Result<Mesh, JoinError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Joins. Takes about 0.2 s where a password is stretched. Dropping the future joins
    /// nothing.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.join())
    }
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").field("mesh", &self.mesh).field("name", &self.name).finish_non_exhaustive()
    }
}
