//! `key`: node identities and passphrases.

use std::path::Path;

use peerchannel::Identity;

use crate::failure::Failure;
use crate::output::say;

/// Words of a passphrase. Each stands for 16 bits.
const WORDS: usize = 6;

/// Makes an identity in a new file.
pub(super) fn new(file: &Path) -> Result<(), Failure> {
    let identity = Identity::generate();
    identity.save_new(file)?;
    say(&identity.node_id().to_string())
}

/// Prints whose identity a file holds.
pub(super) fn show(file: &Path) -> Result<(), Failure> {
    say(&Identity::load(file)?.node_id().to_string())
}

/// Prints a new passphrase.
pub(super) fn passphrase() -> Result<(), Failure> {
    say(&random_passphrase())
}

/// Six random words.
pub(super) fn random_passphrase() -> String {
    let numbers: [u16; WORDS] = rand::random();
    numbers.map(word).join(" ")
}

/// A word of five letters that can be read aloud, one for each number: consonants stand for
/// four bits and vowels for two, as in Daniel Wilkerson's proquints (arXiv:0901.4016).
fn word(number: u16) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let consonant = |shift: u16| char::from(CONSONANTS[usize::from(number >> shift & 15)]);
    let vowel = |shift: u16| char::from(VOWELS[usize::from(number >> shift & 3)]);
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_proposal() {
        // 127.0.0.1 is lusab-babad there.
        assert_eq!(word(0x7f00), "lusab");
        assert_eq!(word(0x0001), "babad");
        assert_eq!(word(0xffff), "zuzuz");
    }
}
