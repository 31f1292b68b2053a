//! Does the cost of the curvature engine grow in proportion to the number of samples, and its memory not at all?
//!
//! ResNet-18 on 32×32 pictures, on flex. Every line is one run in a process of its own, after one over four pictures that
//! is not counted: seconds, samples a second, and the peak of resident memory over that of a process that has the same
//! network and the same pictures and computes nothing (Linux). `cargo bench --bench scaling` takes the first width of
//! `UNLEARN_BENCH_WIDTHS` (64); `UNLEARN_BENCH_SCALING` names other lines than those of [`LINES`], as `exact 64, woodbury 1002`.
//!
//! Diagonals run in the default budget of 1 GiB, so their memory is to stay below that, a copy of the parameters for each
//! tree that is held, and 300 MB. `compat` is the published recursion in closed form for m samples.
#![allow(missing_docs, clippy::print_stdout, clippy::expect_used)]

mod support;

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::Instant;

use unlearn::curvature::oracle::{Samples, TensorSamples};
use unlearn::curvature::{FisherDiag, InverseFisher, ParamTree};
use unlearn::models::ResNet;

use support::{forward, network, pictures, timed, widths};

const LINES: &str = "exact 64, exact 128, exact 256, empirical 64, empirical 256, empirical 1024, hybrid 64, hybrid 256, \
                     woodbury 256, woodbury 1002, compat 1002";

/// What a child is to do.
const CHILD: &str = "UNLEARN_BENCH_CHILD";

/// λ.
const DAMPING: f64 = 1e-3;

fn run(kind: &str, model: &ResNet, samples: &TensorSamples) {
    let m = samples.len();
    let v = || ParamTree::of_parameters(model);
    match kind {
        "exact" => drop(black_box(FisherDiag::exact().run(model, forward, samples).expect("a diagonal"))),
        "empirical" => {
            drop(black_box(FisherDiag::empirical().run(model, forward, samples).expect("a diagonal")));
        }
        "hybrid" => {
            drop(black_box(FisherDiag::hybrid(1, 1).run(model, forward, samples).expect("a diagonal")));
        }
        "woodbury" => {
            let solver = InverseFisher::woodbury(m).damping(DAMPING).budget(support::budget(m));
            drop(black_box(solver.solve(model, forward, samples, &v()).expect("a product")));
        }
        "compat" => {
            let solver = InverseFisher::reference_compat();
            drop(black_box(solver.solve(model, forward, samples, &v()).expect("a product")));
        }
        "nothing" => {}
        other => panic!("{other}: expected exact, empirical, hybrid, woodbury or compat"),
    }
}

/// The most resident memory of this process so far, in MB of 10⁶ bytes, where the system tells.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0 / 1e6)
}

/// `kind` and number of samples.
fn parsed(line: &str) -> (&str, usize) {
    let (kind, n) = line.trim().split_once(' ').expect("a kind and a number of samples");
    (kind, n.trim().parse().expect("a number of samples"))
}

/// Runs a line in this process and prints seconds and peak memory.
fn child(line: &str) {
    let (kind, n) = parsed(line);
    let model = network(widths()[0]);
    let samples = pictures(n);
    run(kind, &model, &samples.slice(0..n.min(4)).expect("some of the pictures"));
    let began = Instant::now();
    run(kind, &model, &samples);
    println!("{} {}", began.elapsed().as_secs_f64(), peak().unwrap_or(f64::NAN));
}

/// Seconds and peak of a child.
fn measured(line: &str) -> (f64, f64) {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(std::env::args().skip(1)).env(CHILD, line).stderr(Stdio::inherit());
    let output = command.output().expect("a child");
    assert!(output.status.success(), "{line}: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("figures");
    let figures: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a figure")).collect();
    (figures[0], figures[1])
}

fn main() {
    support::keep_memory();
    if let Ok(line) = std::env::var(CHILD) {
        child(&line);
        return;
    }
    let tiny = "exact 4, empirical 4, hybrid 4, woodbury 3, compat 4".to_owned();
    let lines = if timed() {
        std::env::var("UNLEARN_BENCH_SCALING").unwrap_or_else(|_| LINES.to_owned())
    } else {
        tiny
    };
    println!("scaling/resnet18-w{}/flex", widths()[0]);
    println!("| run | samples | seconds | samples/s | MB over nothing |");
    println!("|---|---:|---:|---:|---:|");
    for line in lines.split(',') {
        let (kind, n) = parsed(line);
        let (_, nothing) = measured(&format!("nothing {n}"));
        let (seconds, peak) = measured(line);
        println!("| {kind} | {n} | {seconds:.3} | {:.1} | {:.0} |", n as f64 / seconds, peak - nothing);
    }
}
