//! Rows of text under each other: for a terminal, and the same as Markdown.

/// A table being filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    head: Vec<String>,
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

/// Where a column is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub fn new<const N: usize>(columns: [(&str, Side); N]) -> Self {
        let (head, sides) = columns.into_iter().map(|(name, side)| (name.to_owned(), side)).unzip();
        Self { head, sides, rows: Vec::new() }
    }

    /// Adds a row. Cells beyond the columns are left out, missing ones are empty.
    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().take(self.head.len()).collect();
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
    }

    /// Whether no row was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Aligned columns with two spaces between them, no spaces at the ends of lines.
    #[must_use]
    pub fn to_text(&self) -> String {
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| self.lines().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in self.lines() {
            let mut line = String::new();
            for ((cell, width), side) in row.iter().zip(&widths).zip(&self.sides) {
                match side {
                    Side::Left => line += &format!("{cell:<width$}  "),
                    Side::Right => line += &format!("{cell:>width$}  "),
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    /// A Markdown table.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let marks: Vec<String> = self
            .sides
            .iter()
            .map(|side| if *side == Side::Left { "---".into() } else { "---:".into() })
            .collect();
        let mut text = line(&self.head) + &line(&marks);
        for row in &self.rows {
            text += &line(row);
        }
        text
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.head).chain(&self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([("what", Side::Left), ("worst", Side::Right), ("verdict", Side::Left)]);
        table.push(["heals | joins".into(), "4.8 s".into(), "met".into()]);
        table.push(["x".into(), "12.0 s".into()]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        let text = "what            worst  verdict\nheals | joins   4.8 s  met\nx              12.0 s\n";
        assert_eq!(table().to_text(), text);
    }

    #[test]
    fn a_bar_in_a_cell_does_not_end_it() {
        let text = "| what | worst | verdict |\n| --- | ---: | --- |\n| heals \\| joins | 4.8 s | met |\n| x | 12.0 s |  |\n";
        assert_eq!(table().to_markdown(), text);
    }
}
