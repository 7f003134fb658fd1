//! Resolvers as people write them: `lan`, `static:…`, `ticket:…`, `service:…`.

use std::fmt;
use std::str::FromStr;

use peerchannel_wire::{NodeId, ParseTicketError, Ticket};
use thiserror::Error;

use crate::host::{HostPort, ParseHostPortError};

/// Most addresses in one `static:` or `service:`: more belong into a directory or a name.
const ADDRESSES_MAX: usize = 64;

const FORMS: &str =
    "lan | static:HOST:PORT[,HOST:PORT...] | ticket:TICKET | service:[NODEKEY@]HOST:PORT[,...]";

/// Which resolver to use, as given on a command line or in a configuration file.
///
/// ```
/// use peerchannel_resolver::{ResolverUri, parse_resolver_uri};
///
/// let uri = parse_resolver_uri("static:127.0.0.1:4000,mesh.example.org:4000")?;
/// assert!(matches!(&uri, ResolverUri::Static(hosts) if hosts.len() == 2));
/// assert_eq!(uri.to_string(), "static:127.0.0.1:4000,mesh.example.org:4000");
///
/// let error = parse_resolver_uri("carrier-pigeon:x").unwrap_err();
/// assert!(error.to_string().contains("static:HOST:PORT"), "it says what there is");
/// # Ok::<(), peerchannel_resolver::ParseResolverUriError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolverUri {
    /// The local network, by mDNS.
    Lan,
    /// Addresses written down: 1 to 64.
    Static(Vec<HostPort>),
    /// An invitation.
    Ticket(Box<Ticket>),
    /// A directory, at one or several places: 1 to 64.
    Service(Vec<ServiceAddress>),
}

/// Where a directory is, and which node key it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAddress {
    /// Where.
    pub host: HostPort,
    /// Its node key; without one, whoever answers there is believed to be the directory.
    pub node: Option<NodeId>,
}

/// A text that names no resolver of this version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseResolverUriError {
    /// No such form.
    #[error("{0:?} is not a resolver: use one of {FORMS}")]
    Unknown(String),
    /// Planned, not built.
    #[error("the resolver {0:?} is not available in this version: use one of {FORMS}")]
    NotInThisVersion(String),
    /// `lan` takes nothing after it.
    #[error("the resolver \"lan\" takes no arguments, found {0:?}")]
    Argument(String),
    /// Nothing after the colon.
    #[error("the resolver {0:?} needs at least one address: write {0}:HOST:PORT")]
    NoAddress(&'static str),
    /// Too many addresses.
    #[error("a resolver takes at most 64 addresses, found {0}: use a host name that stands for many")]
    TooManyAddresses(usize),
    /// One of the addresses.
    #[error("bad address: {0}")]
    Address(#[from] ParseHostPortError),
    /// The part before the `@`.
    #[error("{0:?} before the @ is not a node key: it has 64 hex digits")]
    NodeKey(String),
    /// The ticket.
    #[error("bad ticket: {0}")]
    Ticket(#[from] ParseTicketError),
}

/// Parses `lan`, `static:ADDR[,ADDR]`, `ticket:T` or `service:[NODEKEY@]ADDR[,…]`.
///
/// In `service:`, a node key holds for its address and those after it, up to the next key.
///
/// # Errors
/// [`ParseResolverUriError`] names what is wrong and which forms there are.
pub fn parse_resolver_uri(text: &str) -> Result<ResolverUri, ParseResolverUriError> {
    let text = text.trim();
    let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
    match scheme.to_ascii_lowercase().as_str() {
        "lan" if rest.is_empty() => Ok(ResolverUri::Lan),
        "lan" => Err(ParseResolverUriError::Argument(rest.to_owned())),
        "static" => {
            let hosts: Result<Vec<HostPort>, _> = items("static", rest)?.map(HostPort::from_str).collect();
            Ok(ResolverUri::Static(hosts?))
        }
        "ticket" => Ok(ResolverUri::Ticket(Box::new(rest.parse()?))),
        "service" => parse_service(rest).map(ResolverUri::Service),
        "dns" | "dht" => Err(ParseResolverUriError::NotInThisVersion(scheme.to_owned())),
        _ => Err(ParseResolverUriError::Unknown(text.chars().take(80).collect())),
    }
}

fn parse_service(rest: &str) -> Result<Vec<ServiceAddress>, ParseResolverUriError> {
    let mut node = None;
    let mut addresses = Vec::new();
    for item in items("service", rest)? {
        let host = match item.split_once('@') {
            Some((key, host)) => {
                let key = key.parse().map_err(|_| ParseResolverUriError::NodeKey(key.to_owned()))?;
                node = Some(key);
                host
            }
            None => item,
        };
        addresses.push(ServiceAddress { host: host.parse()?, node });
    }
    Ok(addresses)
}

fn items<'a>(
    scheme: &'static str,
    rest: &'a str,
) -> Result<impl Iterator<Item = &'a str>, ParseResolverUriError> {
    let count = rest.split(',').count();
    if rest.trim().is_empty() {
        return Err(ParseResolverUriError::NoAddress(scheme));
    }
    if count > ADDRESSES_MAX {
        return Err(ParseResolverUriError::TooManyAddresses(count));
    }
    Ok(rest.split(',').map(str::trim))
}

impl FromStr for ResolverUri {
    type Err = ParseResolverUriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_resolver_uri(text)
    }
}

impl fmt::Display for ResolverUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lan => f.write_str("lan"),
            Self::Static(hosts) => {
                f.write_str("static:")?;
                separated(f, hosts, |f, host| host.fmt(f))
            }
            Self::Ticket(ticket) => write!(f, "ticket:{ticket}"),
            Self::Service(addresses) => {
                f.write_str("service:")?;
                separated(f, addresses, |f, address| match &address.node {
                    Some(node) => write!(f, "{node}@{}", address.host),
                    None => address.host.fmt(f),
                })
            }
        }
    }
}

fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    each: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(index, item)| {
        if index > 0 {
            f.write_str(",")?;
        }
        each(f, item)
    })
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::{MeshName, NodeAddress, Signature, TicketFacts};
    use proptest::prelude::*;

    use super::*;

    fn ticket() -> Ticket {
        let node = NodeId::from_bytes([3; 32]);
        let facts = TicketFacts {
            mesh: MeshName::new("kitchen").unwrap(),
            nodes: vec![NodeAddress::new(node, ["192.0.2.7:4000".parse().unwrap()]).unwrap()],
            inviter: node,
            expires_ms: None,
        };
        facts.unsigned().unwrap().sign(Signature::from_bytes([0; 64]))
    }

    #[test]
    fn every_form_round_trips() {
        let key = "ab".repeat(32);
        let forms = [
            "lan".to_owned(),
            "static:127.0.0.1:1,[::1]:2,host:3".to_owned(),
            "service:host:1".to_owned(),
            format!("service:{key}@127.0.0.1:1,{key}@host:2"),
            format!("ticket:{}", ticket()),
        ];
        for form in forms {
            assert_eq!(form.parse::<ResolverUri>().unwrap().to_string(), form);
        }
    }

    #[test]
    fn a_key_holds_for_the_addresses_after_it() {
        let (one, two) = ("11".repeat(32), "22".repeat(32));
        let uri = parse_resolver_uri(&format!("service:a:1,{one}@b:2,c:3,{two}@d:4")).unwrap();
        let ResolverUri::Service(addresses) = uri else { panic!("{uri:?}") };
        let (one, two) = (one.parse().ok(), two.parse().ok());
        assert_eq!(addresses.iter().map(|a| a.node).collect::<Vec<_>>(), [None, one, one, two]);
    }

    proptest! {
        #[test]
        fn whatever_is_typed_never_panics_and_what_is_understood_round_trips(
            scheme in "(lan|static|service|ticket|dns|)",
            rest in "(:[0-9a-z.:,@\\[\\]é ]{0,60}|\\PC{0,40})",
        ) {
            if let Ok(uri) = parse_resolver_uri(&format!("{scheme}{rest}")) {
                prop_assert_eq!(parse_resolver_uri(&uri.to_string()), Ok(uri));
            }
        }
    }

    #[test]
    fn errors_name_what_is_wrong_and_what_there_is() {
        let check = |text: &str, part: &str| {
            let error = parse_resolver_uri(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("", "use one of lan | static:");
        check("pnrp:x", "\"pnrp:x\" is not a resolver: use one of lan");
        check("dns:example.org", "not available in this version");
        check("dht", "not available in this version");
        check("lan:eth0", "takes no arguments, found \"eth0\"");
        check("static", "needs at least one address: write static:HOST:PORT");
        check("static:", "needs at least one address");
        check("static:127.0.0.1", "no port");
        check("static:127.0.0.1:5,,host:5", "no port");
        check("service:", "write service:HOST:PORT");
        check("service:abc@host:5", "\"abc\" before the @ is not a node key");
        check("ticket:", "bad ticket");
        check("ticket:hello", "begins with \"pc1\"");
        check(&format!("static:{}", ["h:1"; 65].join(",")), "at most 64 addresses, found 65");
    }
}
