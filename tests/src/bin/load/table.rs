//! The table that is printed, as Markdown, so that it can go into the documentation as it is.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::counts::Counts;

/// Rows of what was measured.
pub(crate) struct Table {
    objects: usize,
    rows: Vec<[String; 3]>,
}

/// Two times of one run, and the budget of their ratio.
pub(crate) struct Ratio {
    pub(crate) ours: Duration,
    pub(crate) theirs: Duration,
    pub(crate) whose: &'static str,
    pub(crate) budget: f64,
}

impl Ratio {
    pub(crate) fn to_bare(ours: Duration, theirs: Duration, budget: f64) -> Self {
        Self { ours, theirs, whose: "the bare client", budget }
    }
}

impl Display for Ratio {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is = self.ours.as_secs_f64() / self.theirs.as_secs_f64();
        let verdict = verdict(is <= self.budget, &format!("budget {}", self.budget));
        write!(f, "{is:.2} times {} ({verdict})", self.whose)
    }
}

impl Table {
    pub(crate) fn new(objects: usize) -> Self {
        Self { objects, rows: Vec::new() }
    }

    /// A time; with what it is compared to.
    pub(crate) fn row(&mut self, what: &str, took: Duration, ratio: Option<Ratio>) {
        self.rows.push([what.to_owned(), spoken(took), ratio.map(|ratio| ratio.to_string()).unwrap_or_default()]);
    }

    /// Memory of the controller's process.
    pub(crate) fn memory(&mut self, what: &str, resident: u64, peak: u64) {
        const BUDGET: u64 = 64 << 20;
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let note = format!("peak {} ({})", mib(peak), verdict(resident <= BUDGET, "budget 64 MiB"));
        self.rows.push([what.to_owned(), mib(resident), note]);
    }

    /// The API server's count.
    pub(crate) fn requests(&mut self, what: &str, counts: &Counts) {
        let list: Vec<_> = counts.0.iter().map(|((resource, verb), n)| format!("{n} {verb} {resource}")).collect();
        self.rows.push([format!("requests: {what}"), list.join(", "), String::new()]);
    }

    /// Something that is so or not.
    pub(crate) fn claim(&mut self, what: &str, holds: bool) {
        self.rows.push([what.to_owned(), if holds { "yes" } else { "NO" }.to_owned(), String::new()]);
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} objects of 1 KiB, as many foreign Secrets beside; {}\n", self.objects, machine())?;
        writeln!(f, "| what | measured | |\n|---|---|---|")?;
        for [what, measured, note] in &self.rows {
            writeln!(f, "| {what} | {measured} | {note} |")?;
        }
        Ok(())
    }
}

fn verdict(holds: bool, budget: &str) -> String {
    format!("{budget}: {}", if holds { "kept" } else { "MISSED" })
}

fn spoken(time: Duration) -> String {
    if time.as_secs() == 0 {
        format!("{:.1} ms", time.as_secs_f64() * 1000.0)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    format!("{cpus} cores, {}, {build}, etcd without fsync", model.unwrap_or("unknown processor"))
}
