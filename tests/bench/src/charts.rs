//! The ratios, drawn: a bar for each case, a whisker from the least round to the most, a mark at the target. Where cases of all
//! measures stand together, it is how far each is from its target that is drawn.

use std::path::Path;

use plotters::prelude::*;

use crate::Result;
use crate::measure::PEERS;
use crate::report::Row;
use crate::statistics::{Spread, Target, Verdict};

const WIDTH: u32 = 1100;
/// Height of one bar with its room.
const STEP: u32 = 34;
const MARGIN: u32 = 90;

const GOOD: RGBColor = RGBColor(46, 125, 50);
const BAD: RGBColor = RGBColor(198, 40, 40);
const PLAIN: RGBColor = RGBColor(84, 110, 122);

/// One chart for each measure that has ratios, named after it, and one of all that have a target. The peers' ratios, of which
/// some are thousands, are drawn by their targets too, and apart.
pub(crate) fn draw(rows: &[Row], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut measures: Vec<_> = rows.iter().map(|row| row.measure).collect();
    measures.dedup();
    for measure in measures.into_iter().filter(|measure| *measure != PEERS) {
        let compared = from_below(rows, |row| row.measure == measure);
        if !compared.is_empty() {
            bars(measure, &compared, &folder.join(format!("{measure}.svg")))?;
        }
    }
    for (file, of_peers) in [("targets.svg", false), ("peers.svg", true)] {
        let judged = from_below(rows, |row| row.target.is_some() && (row.measure == PEERS) == of_peers);
        if !judged.is_empty() {
            towards_targets(&judged, &folder.join(file))?;
        }
    }
    Ok(())
}

/// The rows of a chart: its axis begins below, and the table above.
fn from_below(rows: &[Row], wanted: impl Fn(&Row) -> bool) -> Vec<&Row> {
    rows.iter().rev().filter(|row| row.ratio.is_some() && wanted(row)).collect()
}

/// What the chart of targets reaches from and to: how often twice as good as the target, or half as good.
const REACH: std::ops::Range<f64> = -2.0..3.0;

/// How near to its target each is, better to the right, on a scale of factors: half as good is as far from it as twice.
fn towards_targets(rows: &[&Row], file: &Path) -> Result<()> {
    let count = i32::try_from(rows.len())?;
    let root = SVGBackend::new(file, (WIDTH, MARGIN + STEP * u32::try_from(rows.len())?)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("how near to its target: 1 x is the target, better to the right", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(400)
        .build_cartesian_2d(REACH, (0..count).into_segmented())?;
    let name = |place: &SegmentValue<i32>| label(rows, place, |row| format!("{}: {}", row.measure, row.case));
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_x_mesh()
        .y_labels(rows.len())
        .y_label_formatter(&name)
        .x_labels(6)
        .x_label_formatter(&|doublings: &f64| format!("{} x", doublings.exp2()))
        .x_desc("median, with the least and the most of the rounds")
        .draw()?;
    for (place, row) in (0..).zip(rows) {
        let (Some(ratio), Some(target)) = (row.ratio, row.target) else { continue };
        let near = |value: f64| target.nearness(value).log2().clamp(REACH.start, REACH.end);
        let near = Spread { median: near(ratio.median), least: near(ratio.least), most: near(ratio.most) };
        let (from, to) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
        let mut bar = Rectangle::new([(0.0, from), (near.median, to)], colour(row).mix(0.7).filled());
        bar.set_margin(7, 7, 0, 0);
        chart.draw_series([bar])?;
        chart.draw_series([whisker(near, place)])?;
    }
    let edges = [(0.0, SegmentValue::Exact(0)), (0.0, SegmentValue::Exact(count))];
    chart.draw_series([PathElement::new(edges, BLACK.stroke_width(3))])?;
    root.present()?;
    Ok(())
}

fn label(rows: &[&Row], place: &SegmentValue<i32>, name: impl Fn(&Row) -> String) -> String {
    let SegmentValue::CenterOf(place) = place else { return String::new() };
    usize::try_from(*place).ok().and_then(|place| rows.get(place)).map_or_else(String::new, |row| name(row))
}

const fn colour(row: &Row) -> RGBColor {
    match row.verdict {
        Some(Verdict::Reached) => GOOD,
        Some(Verdict::Missed) => BAD,
        None => PLAIN,
    }
}

fn whisker(ratio: Spread, place: i32) -> PathElement<(f64, SegmentValue<i32>)> {
    let middle = SegmentValue::CenterOf(place);
    PathElement::new([(ratio.least, middle.clone()), (ratio.most, middle)], BLACK.stroke_width(2))
}

fn bars(title: &str, rows: &[&Row], file: &Path) -> Result<()> {
    let count = i32::try_from(rows.len())?;
    let height = MARGIN + STEP * u32::try_from(rows.len())?;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let target = |row: &Row| match row.target {
        Some(Target::AtLeast(ratio) | Target::AtMost(ratio)) => ratio,
        None => 0.0,
    };
    let ends = rows.iter().flat_map(|row| [row.ratio.map_or(0.0, |ratio| ratio.most), target(row)]);
    let most = ends.filter(|end| end.is_finite()).fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{title}: ratio to the floor of the same round"), ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(400)
        .build_cartesian_2d(0.0..most, (0..count).into_segmented())?;
    let name = |place: &SegmentValue<i32>| label(rows, place, |row| row.case.clone());
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(rows.len())
        .y_label_formatter(&name)
        .x_desc("median, with the least and the most of the rounds; | is the target")
        .draw()?;
    for (place, row) in (0..).zip(rows) {
        let Some(ratio) = row.ratio else { continue };
        let (from, to) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
        let mut bar = Rectangle::new([(0.0, from), (ratio.median, to)], colour(row).mix(0.7).filled());
        bar.set_margin(7, 7, 0, 0);
        chart.draw_series([bar])?;
        chart.draw_series([whisker(ratio, place)])?;
        if row.target.is_some() {
            let at = target(row);
            let edges = [(at, SegmentValue::Exact(place)), (at, SegmentValue::Exact(place + 1))];
            chart.draw_series([PathElement::new(edges, BLACK.stroke_width(3))])?;
        }
    }
    root.present()?;
    Ok(())
}
