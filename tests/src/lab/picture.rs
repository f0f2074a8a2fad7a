//! The picture of a run: how long each request took, over time, with what happened to the pair marked.
//!
//! An SVG of its own, without script or style sheet: any browser shows it. Latency is on a logarithmic axis, one colour for
//! each kind of traffic; checkpoints are thin lines, what was done to the pair is a thick one with its name.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use super::traffic::{Kind, Sample};

/// Size of the whole, and the frame of the plot in it.
const WIDTH: f64 = 1280.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 1260.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 500.0;
/// The decades of the latency axis: 10^-1 to 10^4 ms.
const DECADES: std::ops::RangeInclusive<i32> = -1..=4;

/// Colours that are told apart also by who sees no red or green (Okabe and Ito).
const COLOURS: [(Kind, &str); 8] = [
    (Kind::Lines, "#0072b2"),
    (Kind::Dialled, "#56b4e9"),
    (Kind::Short, "#009e73"),
    (Kind::Download, "#e69f00"),
    (Kind::Upload, "#d55e00"),
    (Kind::Datagram, "#cc79a7"),
    (Kind::Idle, "#000000"),
    (Kind::Burst, "#999999"),
];

/// What was done to the pair.
#[derive(Debug, Clone)]
pub struct Mark {
    /// When, since the traffic began.
    pub at: Duration,
    /// Its name.
    pub text: String,
}

/// All that is drawn.
#[derive(Debug, Clone, Default)]
pub struct Picture<'a> {
    /// The line above the plot.
    pub title: String,
    /// How long the time axis is.
    pub took: Duration,
    /// Requests.
    pub samples: &'a [Sample],
    /// When checkpoints began.
    pub checkpoints: Vec<Duration>,
    /// What was done.
    pub marks: Vec<Mark>,
}

impl Picture<'_> {
    /// The document.
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        text(&mut svg, (LEFT, 24.0), "start", "#000000", &self.title);
        self.axes(&mut svg);
        let width = self.checkpoint_width();
        for &at in &self.checkpoints {
            line(&mut svg, (self.x(at), TOP), (self.x(at), BOTTOM), "#bbbbbb", width);
        }
        for (n, (kind, colour)) in COLOURS.into_iter().enumerate() {
            self.dots(&mut svg, kind, colour);
            let at = LEFT + 150.0 * n as f64;
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(svg, "<circle cx=\"{at}\" cy=\"46\" r=\"4\" fill=\"{colour}\"/>");
            text(&mut svg, (at + 8.0, 50.0), "start", "#000000", kind.name());
        }
        for (n, mark) in self.marks.iter().enumerate() {
            let (x, y) = (self.x(mark.at), TOP + 14.0 + 16.0 * n as f64);
            line(&mut svg, (x, TOP), (x, BOTTOM), "#cc0000", 2.0);
            // On the side where there is room.
            let (anchor, x) = if x < (LEFT + RIGHT) / 2.0 { ("start", x + 6.0) } else { ("end", x - 6.0) };
            text(&mut svg, (x, y), anchor, "#cc0000", &mark.text);
        }
        svg + "</svg>\n"
    }

    fn axes(&self, svg: &mut String) {
        for decade in DECADES {
            let y = y(Duration::from_secs_f64(10_f64.powi(decade) / 1e3));
            line(svg, (LEFT, y), (RIGHT, y), "#dddddd", 1.0);
            let label = if decade < 0 {
                "0.1 ms".to_owned()
            } else {
                format!("{} ms", 10_u64.pow(decade.unsigned_abs()))
            };
            text(svg, (LEFT - 6.0, y + 4.0), "end", "#000000", &label);
        }
        let seconds = self.took.as_secs_f64();
        // A tick every 1, 2, 5, 10, … seconds, about a dozen in all.
        let steps = (0..6).flat_map(|power| [1, 2, 5].map(|n| n * 10_u64.pow(power)));
        let step = steps.into_iter().find(|step| seconds / *step as f64 <= 14.0).unwrap_or(500_000);
        for second in (0..=seconds as u64).step_by(usize::try_from(step).unwrap_or(1)) {
            let x = self.x(Duration::from_secs(second));
            line(svg, (x, BOTTOM), (x, BOTTOM + 5.0), "#000000", 1.0);
            text(svg, (x, BOTTOM + 20.0), "middle", "#000000", &format!("{second} s"));
        }
        line(svg, (LEFT, TOP), (LEFT, BOTTOM), "#000000", 1.0);
        line(svg, (LEFT, BOTTOM), (RIGHT, BOTTOM), "#000000", 1.0);
        let below = ((LEFT + RIGHT) / 2.0, BOTTOM + 44.0);
        text(svg, below, "middle", "#000000", "time; a dot is a request, a grey line a checkpoint");
    }

    /// One path for all requests of a kind; those that fall on one point are drawn once.
    fn dots(&self, svg: &mut String, kind: Kind, colour: &str) {
        let tenths = |value: f64| (value * 10.0).round() as i64;
        let of_kind = self.samples.iter().filter(|sample| sample.kind == kind);
        let points: BTreeSet<(i64, i64)> =
            of_kind.map(|sample| (tenths(self.x(sample.at)), tenths(y(sample.latency)))).collect();
        if points.is_empty() {
            return;
        }
        let _ = write!(
            svg,
            "<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"3\" stroke-linecap=\"round\" d=\""
        );
        for (x, y) in points {
            let _ = write!(svg, "M{}.{} {}.{}h0", x / 10, x % 10, y / 10, y % 10);
        }
        svg.push_str("\"/>\n");
    }

    /// So many that they would hide the rest are drawn as a haze.
    fn checkpoint_width(&self) -> f64 {
        if self.checkpoints.len() > 200 { 0.3 } else { 1.0 }
    }

    fn x(&self, at: Duration) -> f64 {
        let part = at.as_secs_f64() / self.took.as_secs_f64().max(f64::MIN_POSITIVE);
        LEFT + (RIGHT - LEFT) * part.clamp(0.0, 1.0)
    }
}

/// What is beyond the axis stands at its end.
fn y(latency: Duration) -> f64 {
    let (low, high) = (f64::from(*DECADES.start()), f64::from(*DECADES.end()));
    let decade = (latency.as_secs_f64() * 1e3).max(f64::MIN_POSITIVE).log10();
    BOTTOM - (BOTTOM - TOP) * ((decade - low) / (high - low)).clamp(0.0, 1.0)
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, colour: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let (x, y) = at;
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>"
    );
}

#[cfg(test)]
mod tests;
