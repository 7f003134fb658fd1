//! Text of strangers on a terminal: nothing in it may move the cursor or forge a line.

use std::fmt::Write as _;

/// The text with control characters, and those that turn the writing direction, as escapes.
pub(crate) fn printable(text: &str) -> String {
    let mut printed = String::with_capacity(text.len());
    for character in text.chars() {
        let turns =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns || character.is_control() {
            // Writing to a string cannot fail.
            let _ = write!(printed, "{}", character.escape_default());
        } else {
            printed.push(character);
        }
    }
    printed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_paint_or_forge() {
        assert_eq!(printable("grüß 日本"), "grüß 日本");
        assert_eq!(printable("\u{1b}[2J\nbob: x\u{202e}"), "\\u{1b}[2J\\nbob: x\\u{202e}");
    }
}
