//! The options of every command that joins a mesh.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Args, Command, ValueEnum};
use peerchannel::Features;

const MESH: &str = "Mesh options";
const CREDENTIAL: &str = "Credential (one is needed)";

/// What every ticket begins with.
const TICKET_BEGIN: &str = "pc1";

/// How to join a mesh, as far as somebody said it. Nothing is set that nobody set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[group(id = "mesh-options")]
pub(crate) struct MeshOptions {
    /// The name this node shows to others
    #[arg(long, value_name = "NAME", help_heading = MESH)]
    pub(crate) name: Option<String>,
    /// Where to listen; default: any port of all interfaces
    #[arg(long, value_name = "ADDR:PORT", help_heading = MESH, value_parser = parse_address)]
    pub(crate) listen: Option<SocketAddr>,
    /// An address others can dial, instead of those of the interfaces (repeatable)
    #[arg(long, value_name = "ADDR:PORT", help_heading = MESH, value_parser = parse_address)]
    pub(crate) advertise: Vec<SocketAddr>,
    /// Where to look for the mesh (repeatable): lan (default), static:ADDR[,ADDR...],
    /// ticket:TICKET, service:[NODEKEY@]ADDR[,...]
    #[arg(long, value_name = "URI", help_heading = MESH, value_parser = Quiet(check_resolver))]
    pub(crate) resolver: Vec<String>,
    /// A password here would be seen by everybody on the machine: refused, and not repeated.
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "", value_parser = Quiet(refuse_password))]
    pub(crate) password: Option<String>,
    /// The mesh's password is the content of this file
    #[arg(long, value_name = "FILE", help_heading = CREDENTIAL, group = "credential")]
    pub(crate) password_file: Option<PathBuf>,
    /// The mesh's password is in this environment variable
    #[arg(long, value_name = "VAR", help_heading = CREDENTIAL, group = "credential")]
    pub(crate) password_env: Option<String>,
    /// Ask for the mesh's password
    #[arg(long, help_heading = CREDENTIAL, group = "credential")]
    pub(crate) ask_password: bool,
    /// A mesh without a password: anyone who knows its name is a member
    #[arg(long, help_heading = CREDENTIAL, group = "credential")]
    pub(crate) open: bool,
    /// Accept a password that is easy to guess
    #[arg(long, help_heading = CREDENTIAL)]
    pub(crate) allow_weak_password: bool,
    /// The node's key, created if missing; default: a new identity each time
    #[arg(long, value_name = "FILE", help_heading = MESH)]
    pub(crate) identity: Option<PathBuf>,
    /// Do not sign and check who published a message (all members must agree)
    #[arg(long, help_heading = MESH)]
    pub(crate) no_origin_auth: bool,
    /// Repair starts below this many links
    #[arg(long, value_name = "N", help_heading = MESH)]
    pub(crate) min_neighbors: Option<usize>,
    /// How many links to have
    #[arg(long, value_name = "N", help_heading = MESH)]
    pub(crate) ideal_neighbors: Option<usize>,
    /// Strangers are refused above this many links
    #[arg(long, value_name = "N", help_heading = MESH)]
    pub(crate) max_neighbors: Option<usize>,
    /// A set of defaults: default, or peer-channel (2/3/7 links, 64 KiB messages, echo)
    #[arg(long, value_name = "PRESET", help_heading = MESH, value_parser = parse_preset)]
    pub(crate) preset: Option<Preset>,
    /// Deliver own messages back to this node
    #[arg(long, help_heading = MESH)]
    pub(crate) echo: bool,
    /// Protocol features to offer: all (default), none (as the first release), or a list of
    /// neighborhood, membership; for rolling a release out or back node by node
    #[arg(long, value_name = "LIST", help_heading = MESH, value_parser = parse_features)]
    pub(crate) features: Option<Features>,
    /// Certificates come with a later version: asked for, they are refused by name.
    #[arg(long, value_name = "FILE", hide = true, value_parser = refuse_certificate)]
    pub(crate) ca: Option<PathBuf>,
    /// See `ca`.
    #[arg(long, value_name = "FILE", hide = true, value_parser = refuse_certificate)]
    pub(crate) cert: Option<PathBuf>,
    /// See `ca`.
    #[arg(long, value_name = "FILE", hide = true, value_parser = refuse_certificate)]
    pub(crate) key: Option<PathBuf>,
    /// See `ca`.
    #[arg(long, value_name = "FILE", hide = true, value_parser = refuse_certificate)]
    pub(crate) crl: Option<PathBuf>,
}

/// A set of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// The library's own.
    Default,
    /// As Peer Channel had them.
    PeerChannel,
}

fn parse_preset(text: &str) -> Result<Preset, String> {
    match text {
        "default" => Ok(Preset::Default),
        "peer-channel" => Ok(Preset::PeerChannel),
        "lan" | "internet" => Err("not available in this version: use default or peer-channel".into()),
        _ => Err("use default or peer-channel".into()),
    }
}

fn parse_features(text: &str) -> Result<Features, String> {
    match text.trim() {
        "all" => return Ok(Features::SUPPORTED),
        "none" => return Ok(Features::NONE),
        _ => {}
    }
    text.split(',').try_fold(Features::NONE, |features, name| match name.trim() {
        "neighborhood" => Ok(features | Features::NEIGHBORHOOD),
        "membership" => Ok(features | Features::MEMBERSHIP),
        other => Err(format!("{other:?} is no feature: use all, none, or neighborhood,membership")),
    })
}

/// An address to listen at or to be dialed at.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| "write ADDRESS:PORT, as 0.0.0.0:4555 or [::]:0".to_owned())
}

/// Checks a value whose error does not repeat it: it is a secret, or very long.
#[derive(Debug, Clone, Copy)]
struct Quiet(fn(&str) -> Result<(), &'static str>);

impl TypedValueParser for Quiet {
    type Value = String;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        let fault = |why| clap::Error::raw(ErrorKind::ValueValidation, why).with_cmd(command);
        let Some(text) = value.to_str() else { return Err(fault("a value is not UTF-8\n")) };
        (self.0)(text).map_err(fault)?;
        Ok(text.to_owned())
    }
}

fn refuse_password(_: &str) -> Result<(), &'static str> {
    Err(
        "passwords are not taken on the command line: use --ask-password, --password-file or --password-env\n",
    )
}

fn check_resolver(text: &str) -> Result<(), &'static str> {
    let begin = text.trim().get(..TICKET_BEGIN.len());
    if begin.is_some_and(|begin| begin.eq_ignore_ascii_case(TICKET_BEGIN)) {
        return Err("--resolver: this is a ticket: write --resolver ticket:pc1...\n");
    }
    Ok(())
}

fn refuse_certificate(_: &str) -> Result<PathBuf, String> {
    Err("certificates are not available in this version: use --password-file, --password-env, \
         --ask-password or --open"
        .into())
}

impl MeshOptions {
    /// These options, completed by others of less weight. A credential replaces any other
    /// credential, a list the whole list.
    pub(crate) fn over(mut self, lower: Self) -> Self {
        fn list<T>(upper: Vec<T>, lower: Vec<T>) -> Vec<T> {
            if upper.is_empty() { lower } else { upper }
        }
        if !self.has_credential() {
            self.password_file = lower.password_file;
            self.password_env = lower.password_env;
            self.ask_password = lower.ask_password;
            self.open = lower.open;
        }
        Self {
            name: self.name.or(lower.name),
            listen: self.listen.or(lower.listen),
            advertise: list(self.advertise, lower.advertise),
            resolver: list(self.resolver, lower.resolver),
            allow_weak_password: self.allow_weak_password || lower.allow_weak_password,
            identity: self.identity.or(lower.identity),
            no_origin_auth: self.no_origin_auth || lower.no_origin_auth,
            min_neighbors: self.min_neighbors.or(lower.min_neighbors),
            ideal_neighbors: self.ideal_neighbors.or(lower.ideal_neighbors),
            max_neighbors: self.max_neighbors.or(lower.max_neighbors),
            preset: self.preset.or(lower.preset),
            echo: self.echo || lower.echo,
            features: self.features.or(lower.features),
            ..self
        }
    }

    /// Whether a way of admission was chosen.
    pub(crate) const fn has_credential(&self) -> bool {
        self.password_file.is_some() || self.password_env.is_some() || self.ask_password || self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_replaces_any_other_of_less_weight() {
        let upper = MeshOptions { open: true, ..MeshOptions::default() };
        let lower = MeshOptions { password_env: Some("V".into()), echo: true, ..MeshOptions::default() };
        let both = upper.over(lower);
        assert!(both.open && both.password_env.is_none() && both.echo);
    }

    #[test]
    fn features_are_named_and_an_unknown_one_is_an_error() {
        assert_eq!(parse_features("all"), Ok(Features::SUPPORTED));
        assert_eq!(parse_features("none"), Ok(Features::NONE));
        assert_eq!(parse_features("membership, neighborhood"), Ok(Features::SUPPORTED));
        assert!(parse_features("flight").unwrap_err().contains("\"flight\" is no feature"));
    }

    #[test]
    fn a_list_replaces_the_whole_list() {
        let one = |uri: &str| MeshOptions { resolver: vec![uri.into()], ..MeshOptions::default() };
        assert_eq!(one("lan").over(one("static:h:1")).resolver, ["lan"]);
        assert_eq!(MeshOptions::default().over(one("lan")).resolver, ["lan"]);
    }
}
