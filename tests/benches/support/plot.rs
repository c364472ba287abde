//! Charts of the results, on a white background so that they are readable in dark mode.

use std::path::Path;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

/// Several panels side by side in one SVG file.
pub struct Picture {
    pub title: String,
    pub panels: Vec<Panel>,
}

/// One chart. The horizontal axis is logarithmic with ticks at the measured values, the vertical one is linear from 0
/// or logarithmic.
pub struct Panel {
    pub title: String,
    pub x_label: &'static str,
    pub y_label: &'static str,
    pub logarithmic: bool,
    pub lines: Vec<Line>,
}

/// A line with its name in the legend.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Distinguishable with any colour vision, and in greyscale.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(90, 90, 90),
];
const PANEL: (u32, u32) = (440, 340);
const TITLE: u32 = 44;
const FONT: &str = "sans-serif";

impl Picture {
    /// Writes the picture.
    pub fn save(&self, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let count = self.panels.len();
        let size = (PANEL.0 * u32::try_from(count)?, PANEL.1 + TITLE);
        let root = SVGBackend::new(path, size).into_drawing_area();
        root.fill(&WHITE)?;
        let root = root.titled(&self.title, (FONT, 19))?;
        for (panel, area) in self.panels.iter().zip(root.split_evenly((1, count))) {
            panel.draw(&area)?;
        }
        root.present()?;
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl Panel {
    fn draw(&self, area: &Area) -> Result<(), Box<dyn std::error::Error>> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let mut marks: Vec<f64> = points().map(|(x, _)| *x).collect();
        marks.sort_unstable_by(f64::total_cmp);
        marks.dedup();
        let x = Measured(marks);
        let low = points().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
        let high = points().map(|(_, y)| *y).fold(0.0, f64::max);
        let mut builder = ChartBuilder::on(area);
        builder
            .caption(&self.title, (FONT, 15))
            .margin(8)
            .margin_right(20)
            .x_label_area_size(40)
            .y_label_area_size(58);
        if self.logarithmic {
            let decades = 10_f64.powf(low.log10().floor())..10_f64.powf(high.log10().ceil());
            self.finish(builder.build_cartesian_2d(x, decades.log_scale())?)
        } else {
            self.finish(builder.build_cartesian_2d(x, 0.0..high * 1.1)?)
        }
    }

    fn finish<'a, 'b: 'a, Y>(
        &self,
        mut chart: ChartContext<'a, SVGBackend<'b>, Cartesian2d<Measured, Y>>,
    ) -> Result<(), Box<dyn std::error::Error>>
    where
        Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 13))
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .x_label_formatter(&|x| short(*x))
            // Sums of 0.1 are not exact.
            .y_label_formatter(&|y| format!("{}", (y * 1e4).round() / 1e4))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS) {
            chart
                .draw_series(LineSeries::new(
                    line.points.iter().copied(),
                    colour.stroke_width(2),
                ))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            let dots = line
                .points
                .iter()
                .map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(dots)?;
        }
        // Where lines rarely are: above the low latencies of few clients, or below values far from 0.
        let legend = if self.logarithmic {
            SeriesLabelPosition::UpperLeft
        } else {
            SeriesLabelPosition::LowerRight
        };
        chart
            .configure_series_labels()
            .position(legend)
            .label_font((FONT, 13))
            .background_style(WHITE.mix(0.8))
            .draw()?;
        Ok(())
    }
}

/// A number in short form: 16, 1 thousand, 10 million.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} million", v / 1e6),
        v if v >= 1e3 => format!("{} thousand", v / 1e3),
        v => v.to_string(),
    }
}

/// A logarithmic axis with ticks at the measured values only.
struct Measured(Vec<f64>);

impl Ranged for Measured {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (first, last) = (self.0[0].ln(), self.0[self.0.len() - 1].ln());
        // Some margin at both ends.
        let share = 0.06 + 0.88 * (value.ln() - first) / (last - first).max(f64::EPSILON);
        let length = f64::from(limit.1 - limit.0);
        #[expect(clippy::cast_possible_truncation, reason = "a pixel of the picture")]
        let pixel = (length * share).round() as i32;
        limit.0 + pixel
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.0.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.0[0]..self.0[self.0.len() - 1]
    }
}
