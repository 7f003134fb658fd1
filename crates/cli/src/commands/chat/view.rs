//! What the full-screen chat shows: a pure picture of what is known.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};
use unicode_segmentation::UnicodeSegmentation as _;

use super::editor::Editor;

/// Lines that can be scrolled back to.
const LINES_MAX: usize = 5000;

/// Width of the list of members, where there is room for one.
const MEMBERS_WIDTH: u16 = 24;

/// Narrower terminals show the messages alone.
const WIDTH_WITH_MEMBERS: u16 = 70;

/// A line of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// Somebody said something.
    Message { name: String, text: String, own: bool },
    /// Something happened.
    Note(String),
}

/// A member in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) own: bool,
    pub(super) alive: bool,
}

/// Everything on the screen.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) title: String,
    pub(super) status: String,
    pub(super) online: bool,
    pub(super) members: Vec<Listed>,
    pub(super) editor: Editor,
    // No list beside the conversation, so that a long line can be copied.
    pub(super) without_list: bool,
    entries: VecDeque<Entry>,
    // Rows the conversation is scrolled back by.
    back: usize,
}

impl View {
    /// Adds to the conversation; multi-line text becomes lines.
    pub(super) fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Note(text) => text.lines().for_each(|line| self.push(Entry::Note(line.to_owned()))),
            message @ Entry::Message { .. } => self.push(message),
        }
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() == LINES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// Scrolls back, or forth with a negative number.
    pub(super) fn scroll(&mut self, rows: isize) {
        self.back = self.back.saturating_add_signed(rows);
    }

    /// Draws the screen.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let [head, body, status, input] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let bar = Style::new().add_modifier(Modifier::REVERSED);
        frame.render_widget(Paragraph::new(self.title.as_str()).style(bar), head);
        let with_members = body.width >= WIDTH_WITH_MEMBERS && !self.without_list;
        let [conversation, members] = Layout::horizontal([
            Constraint::Min(1),
            Constraint::Length(if with_members { MEMBERS_WIDTH } else { 0 }),
        ])
        .areas(body);
        self.draw_conversation(frame, conversation);
        if with_members {
            self.draw_members(frame, members);
        }
        let light = if self.online { Color::Green } else { Color::Red };
        let line = Line::from(vec![
            Span::styled(if self.online { " online " } else { " offline " }, Style::new().fg(light)),
            Span::raw(self.status.as_str()),
        ]);
        frame.render_widget(Paragraph::new(line).style(bar), status);
        self.draw_input(frame, input);
    }

    fn draw_conversation(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let (width, height) = (usize::from(area.width).max(1), usize::from(area.height));
        // From the latest line upwards, only as far as is seen.
        let mut rows: Vec<Line<'_>> = Vec::new();
        for entry in self.entries.iter().rev() {
            let mut lines = wrapped(entry, width);
            lines.reverse();
            rows.extend(lines);
            if rows.len() >= height + self.back {
                break;
            }
        }
        self.back = self.back.min(rows.len().saturating_sub(height));
        let mut rows: Vec<Line<'_>> = rows.into_iter().skip(self.back).take(height).collect();
        rows.reverse();
        frame.render_widget(Paragraph::new(rows), area);
    }

    fn draw_members(&self, frame: &mut Frame<'_>, area: Rect) {
        let alive = self.members.iter().filter(|member| member.alive).count();
        let block = Block::new().borders(Borders::LEFT).title(format!(" {alive} here "));
        let lines: Vec<Line<'_>> = self
            .members
            .iter()
            .map(|member| {
                let style = match (member.own, member.alive) {
                    (_, false) => Style::new().add_modifier(Modifier::DIM),
                    (true, true) => Style::new().add_modifier(Modifier::BOLD),
                    (false, true) => Style::new().fg(color_of(&member.name)),
                };
                Line::styled(format!(" {}", member.name), style)
            })
            .collect();
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }

    fn draw_input(&self, frame: &mut Frame<'_>, area: Rect) {
        let (text, cursor) = self.editor.parts();
        let before = Span::raw(&text[..cursor]).width();
        // The cursor is always seen: the text moves to the left beneath it.
        let room = usize::from(area.width).saturating_sub(3);
        let hidden = before.saturating_sub(room);
        let shown = Line::from(vec![Span::raw("> "), Span::raw(skip_width(text, hidden))]);
        frame.render_widget(Paragraph::new(shown), area);
        let column = u16::try_from(2 + before - hidden).unwrap_or(u16::MAX);
        frame.set_cursor_position(Position::new(area.x.saturating_add(column), area.y));
    }
}

/// The text without what fills its first `width` columns.
fn skip_width(text: &str, width: usize) -> &str {
    let mut skipped = 0;
    for (index, shown) in text.grapheme_indices(true) {
        if skipped >= width {
            return &text[index..];
        }
        skipped += Span::raw(shown).width();
    }
    ""
}

fn width_of(character: char) -> usize {
    let mut buffer = [0; 4];
    Span::raw(&*character.encode_utf8(&mut buffer)).width()
}

/// An entry in rows of at most `width` columns, broken at spaces where there are some.
fn wrapped(entry: &Entry, width: usize) -> Vec<Line<'static>> {
    let (head, head_style, text, style) = match entry {
        Entry::Message { name, text, own } => {
            let style = if *own { Style::new() } else { Style::new().fg(color_of(name)) };
            (format!("{name}: "), style.add_modifier(Modifier::BOLD), text.as_str(), Style::new())
        }
        Entry::Note(text) => {
            (String::new(), Style::new(), text.as_str(), Style::new().add_modifier(Modifier::DIM))
        }
    };
    let mut rows = Vec::new();
    let mut used = Span::raw(head.as_str()).width();
    let mut row = vec![Span::styled(head, head_style)];
    let mut piece = String::new();
    for word in text.split_inclusive(' ') {
        let mut word_width = Span::raw(word).width();
        if used + word_width > width && used > 0 && word_width <= width {
            row.push(Span::styled(std::mem::take(&mut piece), style));
            rows.push(Line::from(std::mem::take(&mut row)));
            used = 0;
        }
        for character in word.chars() {
            let columns = width_of(character);
            if used + columns > width && used > 0 {
                row.push(Span::styled(std::mem::take(&mut piece), style));
                rows.push(Line::from(std::mem::take(&mut row)));
                used = 0;
                word_width = 0;
            }
            piece.push(character);
            used += columns;
        }
        let _ = word_width;
    }
    row.push(Span::styled(piece, style));
    rows.push(Line::from(row));
    rows
}

/// A colour that stays with a name.
fn color_of(name: &str) -> Color {
    const COLORS: [Color; 6] =
        [Color::Cyan, Color::Green, Color::Yellow, Color::Magenta, Color::Blue, Color::LightRed];
    let sum = name.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    COLORS[sum % COLORS.len()]
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn screen(view: &mut View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }

    fn message(name: &str, text: &str) -> Entry {
        Entry::Message { name: name.into(), text: text.into(), own: false }
    }

    #[test]
    fn messages_members_status_and_input_have_their_places() {
        let mut view =
            View { title: "kitchen".into(), status: "2 links".into(), online: true, ..View::default() };
        view.members = vec![
            Listed { name: "ann".into(), own: true, alive: true },
            Listed { name: "bob".into(), own: false, alive: true },
        ];
        view.add(message("bob", "hello"));
        view.editor.insert('h');
        let screen = screen(&mut view, 80, 6);
        let rows: Vec<&str> = screen.lines().collect();
        assert_eq!(rows[0], "kitchen");
        assert!(rows[1].contains("2 here"), "{screen}");
        assert!(rows[2].contains(" ann") || rows[2].contains("bob"), "{screen}");
        assert!(rows[..4].iter().any(|row| row.starts_with("bob: hello")), "{screen}");
        assert_eq!(rows[4], " online 2 links");
        assert_eq!(rows[5], "> h");
    }

    #[test]
    fn long_messages_are_broken_at_spaces_and_long_words_anywhere() {
        let check = |text: &str, width: usize, rows: &[&str]| {
            let lines = wrapped(&Entry::Note(text.into()), width);
            let lines: Vec<String> =
                lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect();
            assert_eq!(lines, rows, "{text}");
        };
        check("one two three", 8, &["one two", "three"]);
        check("abcdefghij", 4, &["abcd", "efgh", "ij"]);
        check("a bcdefghij", 4, &["a bc", "defg", "hij"]);
        check("日本語", 4, &["日本", "語"]);
        check("", 4, &[""]);
        check("日", 1, &["日"]);
    }

    #[test]
    fn scrolling_stops_at_the_first_line() {
        let mut view = View::default();
        for number in 0..10 {
            view.add(Entry::Note(format!("line {number}")));
        }
        assert!(screen(&mut view, 20, 5).contains("line 9"));
        view.scroll(100);
        let top = screen(&mut view, 20, 5);
        assert!(top.contains("line 0") && top.contains("line 1"), "{top}");
        view.scroll(-100);
        assert!(screen(&mut view, 20, 5).contains("line 9"));
    }

    #[test]
    fn no_size_is_too_small_and_no_history_too_long() {
        let mut view = View::default();
        for number in 0..LINES_MAX + 10 {
            view.add(message("a", &number.to_string()));
        }
        assert_eq!(view.entries.len(), LINES_MAX);
        for (width, height) in [(1, 1), (2, 3), (80, 2), (3, 50)] {
            screen(&mut view, width, height);
        }
    }
}
