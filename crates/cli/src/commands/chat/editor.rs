//! The input line of the full-screen chat: text and a cursor.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

/// Longest line that can be typed, in bytes: a page of text.
const BYTES_MAX: usize = 4096;

/// What was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    /// Something that has one width everywhere.
    Plain,
    /// Something whose width terminals disagree about: traces of it may be left.
    Wide,
}

/// A line being typed.
#[derive(Debug, Default)]
pub(super) struct Editor {
    text: String,
    // A boundary of `text` between characters; the keys move it by what is seen as one.
    cursor: usize,
}

impl Editor {
    /// The text, and how many bytes of it are before the cursor.
    pub(super) fn parts(&self) -> (&str, usize) {
        (&self.text, self.cursor)
    }

    /// Types a character. Control characters have no place in a line.
    pub(super) fn insert(&mut self, character: char) {
        if !character.is_control() && self.text.len() + character.len_utf8() <= BYTES_MAX {
            self.text.insert(self.cursor, character);
            self.cursor += character.len_utf8();
        }
    }

    /// Takes away what stands before the cursor.
    pub(super) fn backspace(&mut self) -> Removed {
        let end = self.cursor;
        self.left();
        self.remove(self.cursor..end)
    }

    /// Takes away what stands at the cursor.
    pub(super) fn delete(&mut self) -> Removed {
        let length = self.text[self.cursor..].graphemes(true).next().map_or(0, str::len);
        self.remove(self.cursor..self.cursor + length)
    }

    fn remove(&mut self, range: Range<usize>) -> Removed {
        let plain = self.text[range.clone()].is_ascii();
        self.text.replace_range(range, "");
        if plain { Removed::Plain } else { Removed::Wide }
    }

    pub(super) fn left(&mut self) {
        self.cursor -= self.text[..self.cursor].graphemes(true).next_back().map_or(0, str::len);
    }

    pub(super) fn right(&mut self) {
        self.cursor += self.text[self.cursor..].graphemes(true).next().map_or(0, str::len);
    }

    pub(super) const fn home(&mut self) {
        self.cursor = 0;
    }

    pub(super) const fn end(&mut self) {
        self.cursor = self.text.len();
    }

    /// Takes the line, leaving none.
    pub(super) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_press_takes_away_what_is_seen_as_one() {
        let mut editor = Editor::default();
        for character in "ae\u{301}👩‍👩‍👧🇩🇪".chars() {
            editor.insert(character);
        }
        assert_eq!(editor.backspace(), Removed::Wide);
        assert_eq!(editor.backspace(), Removed::Wide);
        assert_eq!(editor.parts(), ("ae\u{301}", 4));
        editor.left();
        assert_eq!(editor.delete(), Removed::Wide);
        assert_eq!(editor.backspace(), Removed::Plain);
        assert_eq!(editor.backspace(), Removed::Plain);
        assert_eq!(editor.parts(), ("", 0));
    }

    #[test]
    fn the_cursor_stays_between_characters() {
        let mut editor = Editor::default();
        for character in "aé€".chars() {
            editor.insert(character);
        }
        editor.left();
        editor.left();
        editor.insert('x');
        assert_eq!(editor.parts(), ("axé€", 2));
        editor.delete();
        editor.backspace();
        editor.backspace();
        editor.backspace();
        assert_eq!(editor.parts(), ("€", 0));
        editor.right();
        editor.right();
        editor.delete();
        assert_eq!(editor.parts(), ("€", 3));
        editor.insert('\u{1b}');
        assert_eq!(editor.take(), "€");
        assert_eq!(editor.parts(), ("", 0));
    }
}
