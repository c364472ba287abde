//! Charts of what happened over time, one below the other, on a white background so that they are readable in dark
//! mode.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

/// A chart over time.
pub struct Timeline {
    pub title: String,
    pub x_label: &'static str,
    pub y_label: &'static str,
    pub lines: Vec<(&'static str, Vec<(f64, f64)>)>,
    /// Moments, with what happened.
    pub marks: Vec<(f64, String)>,
}

/// Distinguishable with any colour vision, and in greyscale.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(90, 90, 90),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];
const SIZE: (u32, u32) = (880, 250);
const FONT: &str = "sans-serif";

/// Writes the charts into one SVG file.
pub fn save(path: &Path, timelines: &[Timeline]) -> Result<(), Box<dyn std::error::Error>> {
    let size = (SIZE.0, SIZE.1 * u32::try_from(timelines.len())?);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (timeline, area) in timelines.iter().zip(root.split_evenly((timelines.len(), 1))) {
        timeline.draw(&area)?;
    }
    root.present()?;
    Ok(())
}

impl Timeline {
    fn draw(&self, area: &DrawingArea<SVGBackend, Shift>) -> Result<(), Box<dyn std::error::Error>> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let end = points().map(|(x, _)| *x).fold(0.0, f64::max);
        let high = points().map(|(_, y)| *y).fold(0.0, f64::max).max(1.0) * 1.25;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 15))
            .margin(8)
            .margin_right(20)
            .x_label_area_size(36)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..end, 0.0..high)?;
        chart
            .configure_mesh()
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 13))
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{}", (y * 10.0).round() / 10.0))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (number, (x, what)) in self.marks.iter().enumerate() {
            chart.draw_series([PathElement::new([(*x, 0.0), (*x, high)], BLACK.mix(0.35))])?;
            // Two heights, so that neighbours do not overlap.
            let y = high * if number % 2 == 0 { 0.99 } else { 0.92 };
            chart.draw_series([Text::new(format!(" {what}"), (*x, y), (FONT, 12).into_font())])?;
        }
        for ((name, points), colour) in self.lines.iter().zip(COLOURS) {
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::MiddleRight)
            .label_font((FONT, 13))
            .background_style(WHITE.mix(0.8))
            .draw()?;
        Ok(())
    }
}
