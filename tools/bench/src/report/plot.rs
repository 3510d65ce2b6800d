//! The latencies as a picture: a row for each operation and server, from p50 to the longest, on a
//! logarithmic axis.

use std::path::Path;

use plotters::coord::combinators::IntoLogRange;
use plotters::coord::ranged1d::{KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    BLACK, Cartesian2d, ChartBuilder, ChartContext, Circle, Color, DrawingBackend, EmptyElement,
    IntoDrawingArea, IntoFont, LogCoord, PathElement, RGBColor, Rectangle, SVGBackend, Text, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Report, float};
use crate::failure::Stop;
use crate::run::Outcome;
use crate::sample::PERCENTILES;

const WIDTH: u32 = 1100;
/// Of a row, and of what is above and below all of them, in pixels.
const ROW: u32 = 18;
const FRAME: u32 = 130;
/// Between operations, in rows.
const GAP: f64 = 0.8;
const FONT: &str = "sans-serif";

/// Told apart also by those who see no colours: they differ in lightness, too.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 90, 160),
    RGBColor(220, 120, 0),
    RGBColor(0, 150, 110),
    RGBColor(170, 50, 60),
    RGBColor(120, 80, 160),
    RGBColor(90, 90, 90),
];

type Axes = Cartesian2d<LogCoord<f64>, Rows>;

/// A line of the picture.
struct Line<'a> {
    subject: usize,
    y: f64,
    outcome: &'a Outcome,
}

/// What is drawn of an operation.
struct Group<'a> {
    name: String,
    /// Where its name goes.
    middle: f64,
    lines: Vec<Line<'a>>,
    /// What the calls below it take, in µs, and where that is shown.
    calls: Option<(f64, f64, f64)>,
}

/// The vertical axis: places without numbers.
struct Rows(RangedCoordf64);

impl Ranged for Rows {
    type FormatOption = plotters::coord::ranged1d::DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.0.map(value, limit)
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        Vec::new()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.0.range()
    }
}

impl Report {
    /// Draws it to a file.
    pub(crate) fn draw(&self, path: &Path) -> Result<(), Stop> {
        let mut svg = String::new();
        self.render(&mut svg)
            .map_err(|why| Stop::at("cannot draw", why))?;
        std::fs::write(path, svg).map_err(|why| Stop::at(path.display(), why))
    }

    fn render(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let (groups, rows) = self.groups();
        let (least, most) = bounds(&groups);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "as many rows as there are outcomes"
        )]
        let height = FRAME + (rows * f64::from(ROW)) as u32;
        let legend = 24 * u32::try_from(self.subjects.len().div_ceil(3)).unwrap_or(1);
        let root = SVGBackend::with_string(svg, (WIDTH, height + legend)).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(52 + legend);
        self.title(&head)?;
        let mut chart = ChartBuilder::on(&body)
            .margin(10)
            .margin_right(30)
            .x_label_area_size(46)
            .y_label_area_size(130)
            .build_cartesian_2d((least..most).log_scale(), Rows((rows..-0.2).into()))?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .x_desc("latency, µs (logarithmic)")
            .x_label_formatter(&|x| format!("{x}"))
            .label_style((FONT, 14))
            .bold_line_style(BLACK.mix(0.2))
            .light_line_style(BLACK.mix(0.07))
            .draw()?;
        for group in &groups {
            draw_group(&mut chart, group, least)?;
        }
        root.present()?;
        Ok(())
    }

    fn groups(&self) -> (Vec<Group<'_>>, f64) {
        let mut y = 0.0;
        let mut groups = Vec::new();
        for measured in &self.measured {
            let mut lines = Vec::new();
            let top = y;
            for (subject, outcome) in measured.outcomes.iter().enumerate() {
                let Some(outcome) = outcome else { continue };
                y += 1.0;
                lines.push(Line {
                    subject,
                    y: y - 0.5,
                    outcome,
                });
            }
            let below = crate::floor::below(&self.floor, measured.work);
            groups.push(Group {
                name: measured.work.to_string(),
                middle: f64::midpoint(top, y),
                lines,
                calls: below.map(|row| (float(row.sample.p50()) / 1e3, top, y)),
            });
            y += GAP;
        }
        (groups, y.max(1.0))
    }

    fn title<D: DrawingBackend>(
        &self,
        head: &plotters::prelude::DrawingArea<D, plotters::coord::Shift>,
    ) -> Result<(), Box<dyn std::error::Error>>
    where
        D::ErrorType: 'static,
    {
        let font = |size: i32| (FONT, size).into_font().color(&BLACK);
        head.draw(&Text::new(
            "lisafs: latency of file operations",
            (20, 12),
            (FONT, 22).into_font().color(&BLACK),
        ))?;
        let mut how = format!("{}; dots from left to right: ", self.how());
        how.push_str(&PERCENTILES.map(|(_, name)| name).join(", "));
        how.push_str("; tick: the longest");
        if !self.floor.is_empty() {
            how.push_str("; grey bar: the bare calls");
        }
        head.draw(&Text::new(how, (20, 38), font(13)))?;
        for (number, subject) in (0_i32..).zip(&self.subjects) {
            let (x, y) = (24 + 350 * (number % 3), 64 + 24 * (number / 3));
            let colour = colour(usize::try_from(number).unwrap_or_default());
            head.draw(&Circle::new((x, y), 5, colour.filled()))?;
            let label = subject.plan.label.clone();
            head.draw(&Text::new(label, (x + 12, y - 7), font(15)))?;
        }
        Ok(())
    }
}

fn draw_group<D: DrawingBackend>(
    chart: &mut ChartContext<'_, D, Axes>,
    group: &Group<'_>,
    left: f64,
) -> Result<(), Box<dyn std::error::Error>>
where
    D::ErrorType: 'static,
{
    if let Some((calls, top, bottom)) = group.calls {
        let corners = [(left, top), (calls.max(left), bottom)];
        let bar = Rectangle::new(corners, BLACK.mix(0.12).filled());
        chart.draw_series([bar])?;
    }
    let name = (FONT, 15).into_font().color(&BLACK);
    let name = name.pos(Pos::new(HPos::Right, VPos::Center));
    chart.draw_series([
        EmptyElement::at((left, group.middle)) + Text::new(group.name.clone(), (-10, 0), name)
    ])?;
    for line in &group.lines {
        let colour = colour(line.subject);
        let overall = line.outcome.seen.overall();
        let at = |nanoseconds: u64| (float(nanoseconds.max(1)) / 1e3, line.y);
        let (first, last) = (at(overall.p50()), at(overall.max()));
        let thin = colour.mix(0.5).stroke_width(2);
        chart.draw_series([PathElement::new([first, last], thin)])?;
        let tick = colour.stroke_width(2);
        let ends = [(last.0, line.y - 0.3), (last.0, line.y + 0.3)];
        chart.draw_series([PathElement::new(ends, tick)])?;
        for (number, (quantile, _)) in (0_i32..).zip(PERCENTILES) {
            // The median is what is looked for first.
            let size = if number == 0 { 5 } else { 3 };
            let point = at(overall.at(quantile));
            chart.draw_series([Circle::new(point, size, colour.filled())])?;
        }
    }
    Ok(())
}

/// Powers of ten around all that is drawn, in µs.
fn bounds(groups: &[Group<'_>]) -> (f64, f64) {
    let (mut least, mut most) = (1.0, 10.0);
    for group in groups {
        for line in &group.lines {
            let overall = line.outcome.seen.overall();
            let (p50, longest) = (float(overall.p50()) / 1e3, float(overall.max()) / 1e3);
            while p50 < least && least > 0.001 {
                least /= 10.0;
            }
            while longest > most && most < 1e9 {
                most *= 10.0;
            }
        }
        if let Some((calls, ..)) = group.calls {
            while calls < least && least > 0.001 {
                least /= 10.0;
            }
        }
    }
    (least, most)
}

fn colour(subject: usize) -> RGBColor {
    let colour = COLOURS.get(subject % COLOURS.len());
    colour.copied().unwrap_or(BLACK)
}
