//! The table that people read.

use std::fmt::Write as _;

use super::{ENDED_EARLY, Network, Report, Row, State};
use crate::metric::Metric;

const HEADER: [&str; 8] = ["network", "method", "UA", "RA", "TA", "MIA", "time", "gap"];

impl Report {
    /// The rows as a Markdown table, columns aligned, with the definitions below it and the reason
    /// for each number that is absent.
    pub fn to_markdown(&self) -> String {
        let mut reasons: Vec<&str> = Vec::new();
        let mut rows: Vec<[String; 8]> = self.rows.iter().map(|row| cells(row, &mut reasons)).collect();
        for (cells, name) in rows.iter_mut().zip(self.shown_names()) {
            cells[0].extend(name.map(|name| format!(" ({})", name.replace('|', "\\|"))));
        }
        let header = HEADER.map(str::to_owned);
        let widths: [usize; 8] = std::array::from_fn(|column| {
            std::iter::once(&header)
                .chain(&rows)
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        });
        let mut text = String::new();
        line(&mut text, &header, &widths);
        let rule: [String; 8] = std::array::from_fn(|column| {
            let dashes = "-".repeat(widths[column] - 1);
            if column < 2 { format!("{dashes}-") } else { format!("{dashes}:") }
        });
        line(&mut text, &rule, &widths);
        for row in &rows {
            line(&mut text, row, &widths);
        }
        if let Some(why) = self.about.get(ENDED_EARLY) {
            let _ = writeln!(text, "\nended early, these are not all rows: {why}");
        }
        // A row that diverged cannot say over which test samples TA is.
        let measured = self.rows.iter().find(|row| row.state == State::Done);
        if let Some(row) = measured.or(self.rows.first()) {
            text.push('\n');
            let evaluation = &row.evaluation;
            for metric in [
                &evaluation.unlearning_accuracy,
                &evaluation.retain_accuracy,
                &evaluation.test_accuracy,
                evaluation.mia(),
                &row.seconds,
                &row.gap.average,
            ] {
                let _ = writeln!(text, "* {}", metric.definition());
            }
        }
        for (number, reason) in reasons.iter().enumerate() {
            let _ = writeln!(text, "* –{}: {reason}", superscript(number + 1));
        }
        text
    }

    /// The network's name for each row that another network's row would look like: two may be of one sparsity, by
    /// another score, schedule or rewind.
    fn shown_names(&self) -> Vec<Option<&str>> {
        let alike =
            |row: &Row, other: &Row| label(row) == label(other) && row.network_name != other.network_name;
        let ambiguous = |row: &Row| self.rows.iter().any(|other| alike(row, other));
        self.rows.iter().map(|row| row.network_name.as_deref().filter(|_| ambiguous(row))).collect()
    }
}

/// What the table calls the network of a row.
fn label(row: &Row) -> String {
    match row.network {
        Network::Dense => "dense".to_owned(),
        Network::Sparse => format!("sparse {:.1} %", 100.0 * row.sparsity),
    }
}

fn cells<'a>(row: &'a Row, reasons: &mut Vec<&'a str>) -> [String; 8] {
    let mut number = |metric: &'a Metric, decimals: usize| match (metric.value(), metric.reason()) {
        (Some(value), _) => format!("{value:.decimals$}"),
        (None, reason) => {
            let reason = reason.unwrap_or_default();
            let place = reasons.iter().position(|known| *known == reason).unwrap_or_else(|| {
                reasons.push(reason);
                reasons.len() - 1
            });
            format!("–{}", superscript(place + 1))
        }
    };
    let evaluation = &row.evaluation;
    [
        label(row),
        match row.state {
            State::Done => row.method.replace('|', "\\|"),
            State::Diverged => format!("{} (diverged)", row.method.replace('|', "\\|")),
        },
        number(&evaluation.unlearning_accuracy, 2),
        number(&evaluation.retain_accuracy, 2),
        number(&evaluation.test_accuracy, 2),
        number(evaluation.mia(), 2),
        number(&row.seconds, 1),
        number(&row.gap.average, 2),
    ]
}

fn line(text: &mut String, cells: &[String; 8], widths: &[usize; 8]) {
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let _ =
            if column < 2 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
    }
    text.push_str("|\n");
}

fn superscript(number: usize) -> String {
    number
        .to_string()
        .chars()
        .filter_map(|digit| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(digit.to_digit(10)? as usize))
        .collect()
}
