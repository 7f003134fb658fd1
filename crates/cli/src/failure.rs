//! Why a command ends with another status than 0, in one line for a person.

use std::error::Error;
use std::fmt;

use peerchannel::{IdentityError, JoinError, Left, PasswordError, StartError};

/// What a shell makes of a process that was interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

/// A failed command: what was wrong, with which value, and what to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line, a variable or the configuration is wrong: status 2.
    Usage(String),
    /// It was asked for properly and did not work: status 1.
    Runtime(String),
    /// A person changed their mind at a prompt: status 130, and nothing to say.
    Interrupted,
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub(crate) fn runtime(text: impl Into<String>) -> Self {
        Self::Runtime(text.into())
    }

    /// The process's exit status.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Runtime(_) => 1,
            Self::Usage(_) => 2,
            Self::Interrupted => INTERRUPTED,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Runtime(text) => f.write_str(text),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// An error with its causes: `cannot read key: permission denied`.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    // `#[error(transparent)]` repeats its source; so do a few foreign errors.
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let text = with_causes(&error);
        match error {
            JoinError::Password(PasswordError::WeakPassword { .. }) => Self::runtime(format!(
                "{text} (--allow-weak-password); `peerchannel key passphrase` makes a good one"
            )),
            JoinError::Start(StartError::Identity(error)) => error.into(),
            JoinError::Name(_) => Self::usage(format!("name: {text}")),
            JoinError::NoCredential { .. }
            | JoinError::TwoCredentials
            | JoinError::Config(_)
            | JoinError::Resolver { .. }
            | JoinError::Ticket(_)
            | JoinError::TicketForged
            | JoinError::TicketExpired
            | JoinError::TicketOfOtherMesh { .. }
            | JoinError::OptionOfNode { .. } => Self::usage(text),
            _ => Self::runtime(text),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Identity(error) => error.into(),
            error => Self::runtime(with_causes(&error)),
        }
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::runtime(match &error {
            IdentityError::Malformed { path, line: 1, .. }
                if path.extension().is_none_or(|extension| extension != "epochs") =>
            {
                format!("{} is not an identity file: `peerchannel key new FILE` makes one", path.display())
            }
            _ => with_causes(&error),
        })
    }
}

impl From<Left> for Failure {
    fn from(error: Left) -> Self {
        Self::runtime(with_causes(&error))
    }
}
