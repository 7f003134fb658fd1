//! A run as a picture: curves over virtual time, one panel per quantity, as one SVG file.
//!
//! Owns the picture's parts ([`Plot`], [`Panel`], [`Curve`], [`Mark`]) and their layout. Promises
//! the same bytes for the same plot: fixed decimals, no clock, no fonts measured, nothing in
//! hash order, so that a picture can be compared like any other output. Colours are Okabe and
//! Ito's, which people with any kind of color vision can tell apart; every curve is named in words
//! besides, and the background is white so that the picture reads on a dark page.
//!
//! Leaves to others: which quantities are worth a panel (`report::picture`).

mod axis;
mod panel;
mod svg;

use self::axis::TimeAxis;
use self::svg::{Anchor, Svg};

/// A picture: panels under each other over one time axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What was run.
    pub title: String,
    /// How: nodes, seed, command.
    pub subtitle: String,
    /// Where the time axis ends, in virtual seconds from the start of the run.
    pub until_s: f64,
    /// From top to bottom.
    pub panels: Vec<Panel>,
    /// What was done to the mesh, drawn through all panels.
    pub marks: Vec<Mark>,
}

/// One quantity over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What is drawn.
    pub title: String,
    /// Of the vertical axis; empty for a plain number.
    pub unit: String,
    /// How values become heights.
    pub scale: Scale,
    /// At most as many as there are colors are told apart by color.
    pub curves: Vec<Curve>,
    /// Values to compare with, drawn as thin horizontal lines: (name, value).
    pub levels: Vec<(String, f64)>,
}

/// How values become heights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// In proportion, from 0.
    Linear,
    /// In proportion, from the smallest value: for what stays near its top.
    Zoomed,
    /// Each factor of ten takes the same height. Values of 0 and below are not drawn.
    Log,
}

/// A named line through points.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What it is, for the legend.
    pub name: String,
    /// (virtual seconds, value) in order of time. A value that is not finite interrupts the line.
    pub points: Vec<(f64, f64)>,
}

/// Something that happened to the mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// When it began, in virtual seconds.
    pub from_s: f64,
    /// When it ended; `None` for what has no duration.
    pub until_s: Option<f64>,
    /// In a few words.
    pub label: String,
}

/// Of the whole picture, in pixels: fits a page of documentation.
const WIDTH: f64 = 960.0;
/// Left of the panels: the numbers of the axis.
const LEFT: f64 = 76.0;
/// Right of the panels: the legend.
const RIGHT: f64 = 176.0;
/// Height of one panel's drawing area.
const PANEL: f64 = 168.0;
/// Between two panels: the title of the lower one.
const GAP: f64 = 40.0;
/// Above the first panel: the two lines of the head.
const HEAD: f64 = 56.0;
/// Below the last panel: the time axis.
const FOOT: f64 = 52.0;
/// Height of one row of labels of marks.
const LABEL_ROW: f64 = 15.0;
/// Rows of labels of marks; what finds no room is drawn without a label.
const LABEL_ROWS_MAX: usize = 4;
/// Width of a character of a label, on the safe side.
const LABEL_CHARACTER: f64 = 6.3;

impl Plot {
    /// The picture as the text of an SVG file.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let labels = place_labels(&self.marks, |at| self.x(at));
        let rows = labels.iter().flatten().map(|row| row + 1).max().unwrap_or(0);
        let top = HEAD + LABEL_ROW * rows as f64 + GAP - 12.0;
        let count = self.panels.len().max(1) as f64;
        let bottom = top + count * PANEL + (count - 1.0) * GAP;
        let mut svg = Svg::new(WIDTH, bottom + FOOT, &self.title, &self.subtitle);
        svg.text((LEFT, 26.0), &self.title, "title", Anchor::Start);
        svg.text((LEFT, 44.0), &self.subtitle, "note", Anchor::Start);
        self.draw_marks(&mut svg, &labels, bottom);
        for (index, panel) in self.panels.iter().enumerate() {
            let y = top + index as f64 * (PANEL + GAP);
            panel::draw(
                &mut svg,
                panel,
                panel::Frame { x: LEFT, y, width: drawn_width(), height: PANEL },
                |at| self.x(at),
            );
        }
        self.draw_time_axis(&mut svg, top, bottom);
        svg.finish()
    }

    fn x(&self, at_s: f64) -> f64 {
        let span = if self.until_s > 0.0 { self.until_s } else { 1.0 };
        LEFT + (at_s / span).clamp(0.0, 1.0) * drawn_width()
    }

    fn draw_marks(&self, svg: &mut Svg, labels: &[Option<usize>], bottom: f64) {
        for (mark, row) in self.marks.iter().zip(labels) {
            let x = self.x(mark.from_s);
            let line_top = HEAD + LABEL_ROW * row.map_or(LABEL_ROWS_MAX, |row| row + 1) as f64 - 2.0;
            if let Some(until) = mark.until_s {
                svg.rect((x, line_top), (self.x(until) - x, bottom - line_top), "fault-area");
            }
            svg.line((x, line_top), (x, bottom), "fault");
            if let Some(row) = row {
                let y = HEAD + LABEL_ROW * (*row as f64 + 1.0) - 5.0;
                let (x, anchor) = label_place(x, &mark.label);
                svg.text((x, y), &mark.label, "fault-label", anchor);
            }
        }
    }

    fn draw_time_axis(&self, svg: &mut Svg, top: f64, bottom: f64) {
        let axis = TimeAxis::new(self.until_s);
        for (at, label) in axis.ticks() {
            let x = self.x(at);
            svg.line((x, bottom), (x, bottom + 4.0), "axis");
            svg.text((x, bottom + 17.0), &label, "tick", Anchor::Middle);
            if at > 0.0 {
                svg.line((x, top), (x, bottom), "grid");
            }
        }
        svg.text((LEFT + drawn_width() / 2.0, bottom + 38.0), axis.title(), "axis-title", Anchor::Middle);
    }
}

fn drawn_width() -> f64 {
    WIDTH - LEFT - RIGHT
}

/// A label begins at its mark, or ends there where it would leave the picture.
fn label_place(x: f64, label: &str) -> (f64, Anchor) {
    let width = label.chars().count() as f64 * LABEL_CHARACTER;
    if x + width > WIDTH - 8.0 { (x - 4.0, Anchor::End) } else { (x, Anchor::Start) }
}

/// The row of each label, so that none covers another; `None` where all rows are taken.
fn place_labels(marks: &[Mark], x: impl Fn(f64) -> f64) -> Vec<Option<usize>> {
    let mut taken: Vec<Vec<(f64, f64)>> = vec![Vec::new(); LABEL_ROWS_MAX];
    marks
        .iter()
        .map(|mark| {
            let width = mark.label.chars().count() as f64 * LABEL_CHARACTER + 8.0;
            let (from, until) = match label_place(x(mark.from_s), &mark.label) {
                (x, Anchor::End) => (x - width, x),
                (x, _) => (x, x + width),
            };
            let row = taken.iter().position(|row| row.iter().all(|(a, b)| until <= *a || from >= *b))?;
            taken[row].push((from, until));
            Some(row)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(from_s: f64, label: &str) -> Mark {
        Mark { from_s, until_s: None, label: label.into() }
    }

    fn plot(marks: Vec<Mark>) -> Plot {
        let curve = Curve { name: "p99".into(), points: vec![(0.0, 1.0), (30.0, f64::NAN), (60.0, 3.0)] };
        Plot {
            title: "split <two ways> & heal".into(),
            subtitle: "1000 nodes, seed 1".into(),
            until_s: 60.0,
            panels: vec![Panel {
                title: "latency".into(),
                unit: "s".into(),
                scale: Scale::Linear,
                curves: vec![curve],
                levels: vec![("target".into(), 2.0)],
            }],
            marks,
        }
    }

    #[test]
    fn same_plot_same_bytes_and_text_is_escaped() {
        let plot = plot(vec![mark(10.0, "cut")]);
        let svg = plot.to_svg();
        assert_eq!(svg, plot.to_svg());
        assert!(svg.contains("split &lt;two ways&gt; &amp; heal"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn labels_do_not_cover_each_other() {
        let x = |at: f64| LEFT + at * 10.0;
        let rows = place_labels(&[mark(1.0, "crash 30 %"), mark(2.0, "heal"), mark(60.0, "cut")], x);
        assert_eq!(rows, [Some(0), Some(1), Some(0)]);
        let many: Vec<Mark> = (0..9).map(|_| mark(1.0, "same place")).collect();
        let rows = place_labels(&many, x);
        assert_eq!(rows.iter().flatten().count(), LABEL_ROWS_MAX, "the others are drawn without a label");
    }

    #[test]
    fn a_plot_of_nothing_is_still_a_picture() {
        let nothing = Plot {
            title: String::new(),
            subtitle: String::new(),
            until_s: 0.0,
            panels: vec![],
            marks: vec![],
        };
        assert!(nothing.to_svg().contains("</svg>"));
        let mut empty = plot(vec![]);
        empty.panels[0].curves[0].points.clear();
        assert!(empty.to_svg().contains("no data"));
    }
}
