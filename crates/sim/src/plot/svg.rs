//! The few SVG elements a plot needs, written as text.
//!
//! Every coordinate has one decimal: enough for a screen, and the same on every machine.

use std::fmt::Write as _;

/// An SVG file being written.
#[derive(Debug)]
pub(super) struct Svg {
    text: String,
}

/// Where a text is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Classes rather than attributes: the file stays small and a page can restyle it.
const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:11px;fill:#333}\
.title{font-size:17px;font-weight:600;fill:#111}.note{fill:#666}.panel-title{font-size:13px;font-weight:600;fill:#111}\
.axis-title{font-size:12px}.tick{fill:#555}.fault-label{fill:#8a1c1c}.level-label{fill:#666;font-style:italic}\
.frame{fill:none;stroke:#999}.axis{stroke:#999}.grid{stroke:#000;stroke-opacity:.08}\
.level{stroke:#666;stroke-dasharray:2 3}.fault{stroke:#b03030;stroke-dasharray:4 3}\
.fault-area{fill:#b03030;fill-opacity:.08}.curve{fill:none;stroke-width:1.6;stroke-linejoin:round}";

impl Svg {
    pub(super) fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let mut svg = Self { text: String::new() };
        svg.push(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{}</title>\n<desc>{}</desc>\n\
             <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>",
            escaped(title),
            escaped(description),
        ));
        svg
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    pub(super) fn rect(&mut self, at: (f64, f64), size: (f64, f64), class: &str) {
        let ((x, y), (width, height)) = (at, size);
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    pub(super) fn text(&mut self, at: (f64, f64), text: &str, class: &str, anchor: Anchor) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, y) = at;
        let text = escaped(text);
        self.push(format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\"{anchor}>{text}</text>"));
    }

    /// A line through points; one point alone becomes a dot.
    pub(super) fn curve(&mut self, points: &[(f64, f64)], color: &str) {
        if let [(x, y)] = points {
            self.push(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\" fill=\"{color}\"/>"));
            return;
        }
        let mut path = String::new();
        for (x, y) in points {
            let _ = write!(path, "{}{x:.1},{y:.1}", if path.is_empty() { "" } else { " " });
        }
        self.push(format_args!("<polyline class=\"curve\" stroke=\"{color}\" points=\"{path}\"/>"));
    }

    pub(super) fn finish(mut self) -> String {
        self.text += "</svg>\n";
        self.text
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{element}");
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            // Not allowed in XML at all.
            control if control.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_element() {
        assert_eq!(escaped("a<b>&\"c\"\u{1b}"), "a&lt;b&gt;&amp;&quot;c&quot; ");
    }

    #[test]
    fn one_point_is_seen() {
        let mut svg = Svg::new(10.0, 10.0, "", "");
        svg.curve(&[(1.0, 2.0)], "#000");
        assert!(svg.finish().contains("<circle cx=\"1.0\" cy=\"2.0\""));
    }
}
