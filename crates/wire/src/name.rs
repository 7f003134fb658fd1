//! Names that people give: of meshes, channels and members.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::limits::{CHANNEL_NAME_MAX, MEMBER_NAME_MAX, MESH_NAME_MAX};

/// A text that cannot be the name it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing, or nothing but white space.
    #[error("a {kind} name must not be empty")]
    Empty {
        /// What it was to name: "mesh", "channel" or "member".
        kind: &'static str,
    },
    /// Longer than the limit.
    #[error("the {kind} name has {length} bytes, the limit is {limit}: choose a shorter one")]
    TooLong {
        /// What it was to name.
        kind: &'static str,
        /// Its length in UTF-8 bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Holds a character that cannot be seen or would break a line.
    #[error("the {kind} name {name:?} holds the control character {character:?}: remove it")]
    Control {
        /// What it was to name.
        kind: &'static str,
        /// The name.
        name: String,
        /// The character.
        character: char,
    },
    /// Begins or ends with white space, which nobody would see when typing it elsewhere.
    #[error("the {kind} name {name:?} begins or ends with white space: remove it")]
    Padded {
        /// What it was to name.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

fn check(kind: &'static str, name: &str, limit: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Empty { kind });
    }
    if name.len() > limit {
        return Err(NameError::TooLong { kind, length: name.len(), limit });
    }
    if let Some(character) = name.chars().find(|c| c.is_control()) {
        return Err(NameError::Control { kind, name: name.to_owned(), character });
    }
    if name.trim() != name {
        return Err(NameError::Padded { kind, name: name.to_owned() });
    }
    Ok(())
}

/// The name of a mesh: what people tell each other to meet.
///
/// 1 to 190 bytes of UTF-8, no control characters, no white space at the ends. Names that
/// differ only in case are the same mesh, as in Peer Channel: the lower-case form is kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshName(Arc<str>);

impl MeshName {
    /// Checks a name and puts it into lower case.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with it and what to do.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check("mesh", name, MESH_NAME_MAX)?;
        let lower = name.to_lowercase();
        // Lower case can be longer than the original in a few scripts.
        check("mesh", &lower, MESH_NAME_MAX)?;
        Ok(Self(lower.into()))
    }

    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a channel inside a mesh: 1 to 127 bytes of UTF-8, case-sensitive, no control
/// characters, no white space at the ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with it and what to do.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check("channel", name, CHANNEL_NAME_MAX)?;
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name a member shows to people: at most 64 bytes of UTF-8, not unique, may be empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberName(String);

impl MemberName {
    /// Checks a name; the empty name means "none given".
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with it and what to do.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if !name.is_empty() {
            check("member", name, MEMBER_NAME_MAX)?;
        }
        Ok(Self(name.to_owned()))
    }

    /// The name; empty if none was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! show {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    )*};
}
show!(MeshName, ChannelName, MemberName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mesh_names_ignore_case() {
        assert_eq!(MeshName::new("Kitchen").unwrap(), MeshName::new("kitchen").unwrap());
        assert_ne!(ChannelName::new("Chat").unwrap(), ChannelName::new("chat").unwrap());
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        let check = |name: &str, part: &str| {
            let text = MeshName::new(name).unwrap_err().to_string();
            assert!(text.contains(part), "{name:?}: {text}");
        };
        check("", "empty");
        check("   ", "empty");
        check(&"x".repeat(191), "limit is 190");
        check("a\nb", "control character");
        check(" a", "white space");
    }

    #[test]
    fn a_member_may_be_nameless() {
        assert_eq!(MemberName::new("").unwrap().as_str(), "");
        assert!(MemberName::new(&"n".repeat(65)).is_err());
    }
}
