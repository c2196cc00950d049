//! Medians, percentiles, and the Markdown tables that the benches print.

use std::process::ExitCode;
use std::time::Duration;

/// A target for a figure, and whether it was met.
pub struct Bar {
    pub description: String,
    pub seen: String,
    pub met: bool,
}

impl Bar {
    pub fn new(description: impl Into<String>, seen: impl Into<String>, met: bool) -> Self {
        Self { description: description.into(), seen: seen.into(), met }
    }

    /// Returns a target that is met if `value` is at most `max`.
    pub fn at_most(description: impl Into<String>, value: f64, max: f64) -> Self {
        Self::new(description, format!("{value:.2}"), value <= max)
    }

    /// Returns a target that is met if `value` is at least `min`.
    pub fn at_least(description: impl Into<String>, value: f64, min: f64) -> Self {
        Self::new(description, format!("{value:.2}"), value >= min)
    }
}

/// Prints a table with these columns.
pub fn print(title: &str, columns: &[&str], rows: &[Vec<String>]) {
    println!("\n### {title}\n");
    println!("| {} |", columns.join(" | "));
    println!("|{}", " --- |".repeat(columns.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

/// Prints the targets and whether they were met; returns the exit status, a failure if one was not.
#[allow(clippy::must_use_candidate, reason = "most benches only print")]
pub fn bars(bars: &[Bar]) -> ExitCode {
    let row =
        |bar: &Bar| vec![bar.description.clone(), bar.seen.clone(), if bar.met { "yes" } else { "no" }.to_owned()];
    print("Targets", &["target", "measured", "met"], &bars.iter().map(row).collect::<Vec<_>>());
    if bars.iter().all(|bar| bar.met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns a row for something that was not measured.
pub fn absent(name: &str, why: &str, columns: usize) -> Vec<String> {
    let mut row = vec![name.to_owned(), why.to_owned()];
    row.resize(columns, String::new());
    row
}

/// Sorts the values and returns the one below which `share` of them lie.
pub fn percentile<T: Ord + Copy + Default>(values: &mut [T], share: f64) -> T {
    values.sort_unstable();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
    let index = ((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or_default()
}

pub fn median<T: Ord + Copy + Default>(values: &mut [T]) -> T {
    percentile(values, 0.5)
}

/// Returns the median of floating-point values.
pub fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

pub fn us(duration: Duration) -> String {
    format!("{:.1} us", duration.as_secs_f64() * 1e6)
}

/// Formats bytes as megabytes of 1,000,000 bytes.
#[allow(clippy::cast_precision_loss, reason = "for a table")]
pub fn mb(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

/// Returns `whole / part`.
pub fn ratio(whole: Duration, part: Duration) -> f64 {
    whole.as_secs_f64() / part.as_secs_f64().max(1e-9)
}
