//! A host and a port as people write them: `192.0.2.7:4000`, `[2001:db8::7]:4000`,
//! `mesh.example.org:4000`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use peerchannel_wire::is_dialable;
use thiserror::Error;

/// Longest host name (RFC 1035 section 2.3.4).
const HOST_NAME_MAX: usize = 253;

/// Most addresses used of one host name: dual-stack hosts with a few interfaces, or a small
/// cluster behind one name; more would be dialed one after the other anyway.
pub(crate) const HOST_ADDRESSES_MAX: usize = 16;

/// How long one look-up may take: two tries of a stub resolver with its usual 5 s would be
/// too long for a join; one fits.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// A place to send datagrams to, by address or by name.
///
/// A name is looked up each time it is needed, never remembered: what it stands for may
/// change while a program runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort(Host);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Address(SocketAddr),
    Name(String, u16),
}

impl HostPort {
    /// The addresses it stands for now; at most 16, at least one.
    ///
    /// # Errors
    /// What the operating system's resolver said, for people; also if it took over 5 s.
    pub(crate) async fn lookup(&self) -> Result<Vec<SocketAddr>, String> {
        let (name, port) = match &self.0 {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name, port) => (name.as_str(), *port),
        };
        let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((name, port)));
        let addresses = match lookup.await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return Err(format!("the name {name} does not resolve: {error}")),
            Err(_) => return Err(format!("the look-up of {name} took over {} s", LOOKUP_TIMEOUT.as_secs())),
        };
        let mut usable: Vec<SocketAddr> = Vec::new();
        for address in addresses.filter(is_dialable) {
            if usable.len() < HOST_ADDRESSES_MAX && !usable.contains(&address) {
                usable.push(address);
            }
        }
        if usable.is_empty() {
            return Err(format!("the name {name} has no usable address"));
        }
        Ok(usable)
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self(Host::Address(address))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Host::Address(address) => address.fmt(f),
            Host::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// A text that is no host and port.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseHostPortError {
    /// There is no port.
    #[error("{0:?} has no port: write HOST:PORT, and an IPv6 address as [ADDRESS]:PORT")]
    NoPort(String),
    /// The port is no number from 1 to 65535.
    #[error("{port:?} in {text:?} is not a port: use a number from 1 to 65535")]
    BadPort {
        /// The whole text.
        text: String,
        /// What stands after the last colon.
        port: String,
    },
    /// The host is neither an address nor a possible name.
    #[error("{host:?} in {text:?} is neither an IP address nor a host name")]
    BadHost {
        /// The whole text.
        text: String,
        /// What stands before the last colon.
        host: String,
    },
    /// An address to which nothing can be sent.
    #[error("nothing can be sent to {0}: it is not the address of one host")]
    NotDialable(SocketAddr),
}

impl FromStr for HostPort {
    type Err = ParseHostPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
            return Err(ParseHostPortError::NoPort(text.to_owned()));
        };
        let port = match port.parse::<u16>() {
            Ok(port) if port != 0 => port,
            _ => {
                return Err(ParseHostPortError::BadPort { text: text.to_owned(), port: port.to_owned() });
            }
        };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if is_dialable(&address) {
                Ok(Self(Host::Address(address)))
            } else {
                Err(ParseHostPortError::NotDialable(address))
            };
        }
        if !is_host_name(host) {
            return Err(ParseHostPortError::BadHost { text: text.to_owned(), host: host.to_owned() });
        }
        Ok(Self(Host::Name(host.to_ascii_lowercase(), port)))
    }
}

/// Letters, digits, hyphens and underscores in labels; not all digits, which would be a
/// mistyped address.
fn is_host_name(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    host.len() <= HOST_NAME_MAX
        && labels.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
        })
        && !labels.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_round_trip() {
        for text in ["192.0.2.7:4000", "[2001:db8::7]:4000", "mesh.example.org:1", "localhost:65535"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let check = |text: &str, part: &str| {
            let error = text.parse::<HostPort>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("", "no port");
        check("192.0.2.7", "no port");
        check("[2001:db8::7]", "no port");
        check("host:", "\"\" in \"host:\" is not a port");
        check("host:0", "is not a port");
        check("host:65536", "is not a port");
        check("192.0.2.700:5", "neither an IP address nor a host name");
        check("2001:db8::7:5", "neither");
        check("a b:5", "neither");
        check("-x:5", "neither");
        check(":5", "neither");
        check("a..b:5", "neither");
        check(&format!("{}:5", "a.".repeat(130)), "neither");
        check("0.0.0.0:5", "nothing can be sent to 0.0.0.0:5");
        check("224.0.0.1:5", "not the address of one host");
    }

    #[tokio::test]
    async fn a_name_is_looked_up() {
        let addresses = "localhost:7".parse::<HostPort>().unwrap().lookup().await.unwrap();
        assert!(addresses.iter().all(|a| a.ip().is_loopback() && a.port() == 7), "{addresses:?}");
        let error = "no-such-host.invalid:7".parse::<HostPort>().unwrap().lookup().await.unwrap_err();
        assert!(error.contains("no-such-host.invalid"), "{error}");
    }
}
