//! The input line of the full-screen chat: text and a cursor.

/// Longest line that can be typed, in bytes: a page of text.
const BYTES_MAX: usize = 4096;

/// A line being typed.
#[derive(Debug, Default)]
pub(super) struct Editor {
    text: String,
    // A character boundary of `text`.
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

    pub(super) fn backspace(&mut self) {
        if let Some(previous) = self.text[..self.cursor].chars().next_back() {
            self.cursor -= previous.len_utf8();
            self.text.remove(self.cursor);
        }
    }

    pub(super) fn delete(&mut self) {
        if self.cursor < self.text.len() {
            self.text.remove(self.cursor);
        }
    }

    pub(super) fn left(&mut self) {
        self.cursor -= self.text[..self.cursor].chars().next_back().map_or(0, char::len_utf8);
    }

    pub(super) fn right(&mut self) {
        self.cursor += self.text[self.cursor..].chars().next().map_or(0, char::len_utf8);
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
