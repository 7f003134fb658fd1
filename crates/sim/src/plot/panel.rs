//! One panel: frame, value axis, levels, curves and legend.

use super::axis::{ValueAxis, number};
use super::svg::{Anchor, Svg};
use super::{Curve, Panel};

/// Okabe and Ito's colours, without their yellow (too faint on white) and black (the frame's).
const COLORS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// Where a panel draws.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

pub(super) fn draw(svg: &mut Svg, panel: &Panel, frame: Frame, x: impl Fn(f64) -> f64) {
    let Frame { x: left, y: top, width, height } = frame;
    let title =
        if panel.unit.is_empty() { panel.title.clone() } else { format!("{} ({})", panel.title, panel.unit) };
    svg.text((left, top - 8.0), &title, "panel-title", Anchor::Start);
    svg.rect((left, top), (width, height), "frame");
    let drawn = panel.curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1));
    let levels = panel.levels.iter().map(|level| level.1);
    let has_points = drawn.clone().any(f64::is_finite);
    let Some(axis) = ValueAxis::new(panel.scale, drawn.chain(levels)).filter(|_| has_points) else {
        svg.text((left + width / 2.0, top + height / 2.0), "no data", "note", Anchor::Middle);
        return;
    };
    let y = |value: f64| top + height * (1.0 - axis.height(value));
    for tick in &axis.ticks {
        svg.line((left, y(*tick)), (left + width, y(*tick)), "grid");
        svg.text((left - 7.0, y(*tick) + 4.0), &number(*tick), "tick", Anchor::End);
    }
    for (name, value) in &panel.levels {
        svg.line((left, y(*value)), (left + width, y(*value)), "level");
        svg.text((left + width - 4.0, y(*value) - 4.0), name, "level-label", Anchor::End);
    }
    for (index, curve) in panel.curves.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        for piece in pieces(curve, &axis, &x, y) {
            svg.curve(&piece, color);
        }
        let (legend_x, legend_y) = (left + width + 14.0, top + 12.0 + 18.0 * index as f64);
        svg.curve(&[(legend_x, legend_y - 4.0), (legend_x + 18.0, legend_y - 4.0)], color);
        svg.text((legend_x + 24.0, legend_y), &curve.name, "legend", Anchor::Start);
    }
}

/// A curve in pixels, cut where it has no value, with at most four points per column of pixels:
/// the first, the lowest, the highest and the last, so that no peak is lost.
fn pieces(
    curve: &Curve,
    axis: &ValueAxis,
    x: impl Fn(f64) -> f64,
    y: impl Fn(f64) -> f64,
) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = Vec::new();
    let mut piece: Vec<(f64, f64)> = Vec::new();
    let mut column: Vec<(f64, f64)> = Vec::new();
    let is_drawn = |value: f64| value.is_finite() && (!axis.is_log() || value > 0.0);
    for (at, value) in &curve.points {
        if !is_drawn(*value) {
            thin(&mut column, &mut piece);
            if !piece.is_empty() {
                pieces.push(std::mem::take(&mut piece));
            }
            continue;
        }
        let point = (x(*at), y(*value));
        if column.first().is_some_and(|first| first.0.floor() < point.0.floor()) {
            thin(&mut column, &mut piece);
        }
        column.push(point);
    }
    thin(&mut column, &mut piece);
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// Moves a column of pixels into the piece, thinned.
fn thin(column: &mut Vec<(f64, f64)>, piece: &mut Vec<(f64, f64)>) {
    if column.len() <= 4 {
        piece.append(column);
        return;
    }
    let by_height = |a: &usize, b: &usize| column[*a].1.total_cmp(&column[*b].1);
    let (last, indices) = (column.len() - 1, 0..column.len());
    let lowest = indices.clone().min_by(by_height).unwrap_or(0);
    let highest = indices.max_by(by_height).unwrap_or(last);
    let mut kept = [0, lowest, highest, last];
    kept.sort_unstable();
    let mut before = None;
    for index in kept {
        if before != Some(index) {
            piece.push(column[index]);
        }
        before = Some(index);
    }
    column.clear();
}

#[cfg(test)]
mod tests {
    use super::super::Scale;
    use super::*;

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_peak() {
        let mut points: Vec<(f64, f64)> =
            (0..100_000).map(|i| (f64::from(i) / 1000.0, f64::from(i % 7))).collect();
        points[50_000].1 = 99.0;
        let curve = Curve { name: "c".into(), points };
        let axis = ValueAxis::new(Scale::Linear, curve.points.iter().map(|p| p.1)).unwrap();
        let pieces = pieces(&curve, &axis, |at| at * 7.0, |value| value);
        assert_eq!(pieces.len(), 1);
        assert!(pieces[0].len() <= 4 * 701, "{}", pieces[0].len());
        assert!(pieces[0].iter().any(|point| point.1 > 98.0));
    }

    #[test]
    fn a_missing_value_interrupts_the_line() {
        let points = vec![(0.0, 1.0), (10.0, f64::NAN), (20.0, 2.0), (30.0, 0.0)];
        let curve = Curve { name: "c".into(), points };
        let lengths = |scale| {
            let axis = ValueAxis::new(scale, curve.points.iter().map(|p| p.1)).unwrap();
            pieces(&curve, &axis, |at| at, |value| value).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(Scale::Linear), [1, 2]);
        assert_eq!(lengths(Scale::Log), [1, 1], "a logarithm of 0 is nowhere");
    }
}
