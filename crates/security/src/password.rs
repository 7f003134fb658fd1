//! A mesh's password: how strong it is, and the stretched form that admission uses.
//!
//! CPace leaves nothing to attack offline, so a stolen transcript is worth nothing whatever
//! the password. The strength rule and the Argon2id stretch are for what remains: guessing
//! online, one try per attempt, and a memory image of a member. docs/protocol.md section 2.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use peerchannel_wire::{CredentialKind, MeshId, MeshName};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::mesh_id::mesh_id;

/// Longest password in UTF-8 bytes: far more than six words, and bounded.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Least strength of a password in bits (log2 of the estimated guesses). Guesses go online
/// against delays that grow per network (see [`Gate`](crate::Gate)): 2^40 of them take a
/// botnet of 100,000 networks about 20 years (protocol.md section 2 has the number).
pub const PASSWORD_BITS_MIN: f64 = 40.0;

/// The estimate looks at this many characters: its cost grows faster than the length.
const ESTIMATED_CHARS_MAX: usize = 100;

/// Argon2id memory in KiB. 64 MiB and three passes cost 0.2 to 0.6 s of one core
/// (measured 2026-11); RFC 9106 section 4 recommends both for machines that cannot spare 2 GiB.
const STRETCH_KIB: u32 = 64 * 1024;
/// Argon2id passes.
const STRETCH_PASSES: u32 = 3;

/// What is wrong with a password.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Nothing was given.
    #[error("the password is empty: use six random words, or join an open mesh by saying so")]
    Empty,
    /// Longer than [`PASSWORD_BYTES_MAX`].
    #[error("the password has {length} bytes, the limit is {PASSWORD_BYTES_MAX}: use six random words")]
    TooLong {
        /// Its length in UTF-8 bytes.
        length: usize,
    },
    /// Too easy to guess.
    #[error(
        "the password is too weak (about {bits:.0} bits, at least {needed:.0} are needed): \
         use six random words, or allow weak passwords explicitly"
    )]
    WeakPassword {
        /// Its estimated strength: log2 of the guesses an informed attacker needs.
        bits: f64,
        /// [`PASSWORD_BITS_MIN`].
        needed: f64,
    },
}

/// The memory for the stretch (64 MiB) could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("stretching the password needs 64 MiB of memory, and there is not that much")]
pub struct StretchError;

/// The password of a mesh as a person gave it: 1 to 1024 bytes of UTF-8, taken literally
/// (nothing is trimmed or normalised).
///
/// Wiped from memory on drop and never shown by `Debug`.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password literally.
    ///
    /// # Errors
    /// [`PasswordError::Empty`] or [`PasswordError::TooLong`]. Strength is checked apart, by
    /// [`check_strength`](Self::check_strength).
    pub fn new(text: &str) -> Result<Self, PasswordError> {
        match text.len() {
            0 => Err(PasswordError::Empty),
            length if length > PASSWORD_BYTES_MAX => Err(PasswordError::TooLong { length }),
            _ => Ok(Self(Zeroizing::new(text.to_owned()))),
        }
    }

    /// Its strength in bits: log2 of the guesses that zxcvbn estimates for the first 100
    /// characters. At most 64. An estimate, not a proof: it knows common words, names,
    /// keyboards and dates of English, not the user's dog.
    #[must_use]
    pub fn strength_bits(&self) -> f64 {
        let cut: Zeroizing<String> = Zeroizing::new(self.0.chars().take(ESTIMATED_CHARS_MAX).collect());
        #[allow(clippy::cast_precision_loss)] // An estimate of an exponent.
        let guesses = zxcvbn::zxcvbn(&cut, &[]).guesses().max(1) as f64;
        guesses.log2()
    }

    /// Refuses a password that could be guessed: the 40-bit rule of protocol.md section 2.
    ///
    /// A caller that wants to let a weak password through (a demo, a closed network) makes
    /// that an explicit choice of its user and does not call this. Takes some milliseconds,
    /// the first time some more; call it once per join.
    ///
    /// # Errors
    /// [`PasswordError::WeakPassword`] below [`PASSWORD_BITS_MIN`].
    pub fn check_strength(&self) -> Result<(), PasswordError> {
        let bits = self.strength_bits();
        if bits < PASSWORD_BITS_MIN {
            return Err(PasswordError::WeakPassword { bits, needed: PASSWORD_BITS_MIN });
        }
        Ok(())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// A password stretched for one mesh: what a member keeps in memory instead of the password.
///
/// Wiped from memory on drop and never shown by `Debug`. Cloning is cheap.
#[derive(Clone)]
pub struct StretchedPassword {
    mesh: MeshId,
    key: Zeroizing<[u8; 32]>,
}

impl StretchedPassword {
    /// Stretches a password for the mesh of this name with Argon2id (64 MiB, 3 passes, one
    /// lane, the mesh id as salt).
    ///
    /// **Blocks** for 0.2 to 0.6 s of one core: call it once per join, off the executor.
    ///
    /// # Errors
    /// [`StretchError`] if the memory cannot be had.
    pub fn stretch(password: &Password, name: &MeshName) -> Result<Self, StretchError> {
        Self::with_cost(password, name, STRETCH_KIB, STRETCH_PASSES)
    }

    /// Stretches with next to no cost and to a different result than
    /// [`stretch`](Self::stretch): for tests of the layers above, never for real meshes.
    ///
    /// # Errors
    /// [`StretchError`] if 8 KiB cannot be had.
    #[doc(hidden)]
    pub fn danger_low_cost(password: &Password, name: &MeshName) -> Result<Self, StretchError> {
        Self::with_cost(password, name, 8, 1)
    }

    fn with_cost(password: &Password, name: &MeshName, kib: u32, passes: u32) -> Result<Self, StretchError> {
        let mesh = mesh_id(name, CredentialKind::Password);
        let mut key = Zeroizing::new([0; 32]);
        // Costs and lengths are within Argon2's limits by their constants: what can fail is
        // memory.
        let params = Params::new(kib, passes, 1, Some(key.len())).map_err(|_| StretchError)?;
        let blocks = params.block_count();
        let mut memory = Vec::new();
        memory.try_reserve_exact(blocks).map_err(|_| StretchError)?;
        memory.resize(blocks, argon2::Block::default());
        let mut memory = Zeroizing::new(memory);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(
                password.0.as_bytes(),
                mesh.as_bytes(),
                key.as_mut_slice(),
                memory.as_mut_slice(),
            )
            .map_err(|_| StretchError)?;
        Ok(Self { mesh, key })
    }

    /// The mesh it is for.
    #[must_use]
    pub fn mesh(&self) -> &MeshId {
        &self.mesh
    }

    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl fmt::Debug for StretchedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StretchedPassword({:?}, redacted)", self.mesh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    fn name(text: &str) -> MeshName {
        MeshName::new(text).unwrap()
    }

    #[test]
    fn weak_passwords_are_refused_with_advice() {
        for text in ["a", "hunter2", "password123", "qwertyuiop", "Summer2026!", "aaaaaaaaaaaaaaaaaaaaaaaa"] {
            let error = password(text).check_strength().unwrap_err();
            assert!(error.to_string().contains("six random words"), "{text}: {error}");
            assert!(!error.to_string().contains(text) || text == "a", "{text} must not be shown");
        }
    }

    #[test]
    fn six_words_are_strong_enough() {
        for text in
            ["orbit velvet cactus thunder mango quill", "correct horse battery staple", "xK9#mQ2$vL7pZw"]
        {
            assert!(password(text).check_strength().is_ok(), "{text}: {}", password(text).strength_bits());
        }
    }

    #[test]
    fn a_long_password_is_estimated_in_bounded_time() {
        let start = std::time::Instant::now();
        assert!(password(&"añ€𝄞x".repeat(80)).strength_bits() > 0.0);
        assert!(start.elapsed() < std::time::Duration::from_secs(20));
    }

    #[test]
    fn lengths_are_checked_and_nothing_is_trimmed() {
        assert_eq!(Password::new("").unwrap_err(), PasswordError::Empty);
        assert!(Password::new(&"x".repeat(1024)).is_ok());
        let error = Password::new(&"x".repeat(1025)).unwrap_err();
        assert_eq!(error, PasswordError::TooLong { length: 1025 });
        let stretch = |text| StretchedPassword::danger_low_cost(&password(text), &name("m")).unwrap();
        assert_ne!(*stretch("word").key(), *stretch("word ").key());
    }

    #[test]
    fn the_stretch_depends_on_password_and_mesh() {
        let stretch = |word, mesh| StretchedPassword::danger_low_cost(&password(word), &name(mesh)).unwrap();
        assert_eq!(stretch("a", "m").key(), stretch("a", "M").key());
        assert_ne!(stretch("a", "m").key(), stretch("b", "m").key());
        assert_ne!(stretch("a", "m").key(), stretch("a", "n").key());
        assert_eq!(*stretch("a", "m").mesh(), mesh_id(&name("m"), CredentialKind::Password));
    }

    #[test]
    fn the_real_stretch_stays_what_it_is() {
        let stretched = StretchedPassword::stretch(&password("six random words"), &name("kitchen")).unwrap();
        let hex: String = stretched.key().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "22c4a12d1d54ee1aa37a208ff6836024e314f3d1283ab7af4e634f55eb451a07");
    }

    #[test]
    fn debug_shows_no_secret() {
        let password = password("sesame");
        let stretched = StretchedPassword::danger_low_cost(&password, &name("m")).unwrap();
        assert!(!format!("{password:?}{stretched:?}").contains("sesame"));
        assert!(!format!("{stretched:?}").contains(&format!("{:?}", stretched.key())[1..20]));
    }
}
