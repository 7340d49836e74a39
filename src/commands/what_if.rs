//! `tollgate what-if`: recorded checks judged by another catalog, as a table, CSV or JSON.
//!
//! Judging is the engine's. The service is not asked.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::CommandError;
use super::progress::Progress;
use super::table::{cell, print_json, print_table};
use crate::catalog::CounterPlacement;
use crate::control::read_catalog;
use crate::engine::{
    MergedLines, RecordSource, RefusalRow, Unplaced, UnplacedChecks, WhatIf, WhatIfKeys,
    WhatIfReport,
};
use crate::time::Micros;

/// The intervals at which the progress is shown: as a bar on a terminal, and as lines elsewhere.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The lines between two looks at the clock.
const LINES_PER_LOOK: u64 = 4_096;

/// Arguments of `tollgate what-if`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Nodes record with `--record FILE`. To see what a change of the limits would have done:

  tollgate export --keys > new.yaml        or a copy of the catalog file of the nodes
  (edit new.yaml)
  tollgate what-if --catalog new.yaml node-1.record node-2.record
  zcat node-1.record.*.gz | tollgate what-if --catalog new.yaml --csv - > refusals.csv

All checks are judged in the order and at the times of the record, by the reference implementation
of the limits. Pass the files of all nodes that share a Redis, and rotated files in any order. A
counter begins with the level that the record shows for it, if the new catalog has the same limit
under the same name; otherwise it begins empty.

BEFORE counts the checks that were refused as recorded, AFTER those that the new catalog refuses:
each by the first limit that refuses it. Not judged, and in neither column: checks whose key or
request the new catalog does not have, and lines without a request (of an older release, of
Envoy's descriptors, or with record_requests = false). Their number is printed. Checks that were
answered by 400 or 403 are not in a record.

Exit codes: 0 if no check that was allowed would be refused, 1 if one would be, 2 for an error,
also if no check at all can be judged.")]
pub struct WhatIfArgs {
    /// The catalog file to judge by, with the API keys of the recorded checks
    #[arg(long, value_name = "FILE")]
    catalog: PathBuf,
    /// Files written with --record; - is standard input
    #[arg(value_name = "RECORD", required = true)]
    records: Vec<PathBuf>,
    /// Prints all rows as CSV, and the summary to standard error
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Prints all rows and the summary as JSON
    #[arg(long)]
    json: bool,
    /// The most rows of the table, the largest changes first
    #[arg(short = 'n', long = "rows", value_name = "NUMBER", default_value_t = 50)]
    rows: usize,
}

/// Judges the records and prints the result. True if no check that was allowed would be refused.
///
/// # Errors
/// If the catalog or a record cannot be read, or no check in them can be judged.
pub fn run(args: &WhatIfArgs) -> Result<bool, CommandError> {
    let catalog = read_catalog(&args.catalog, CounterPlacement::Together)?;
    let mut what_if = WhatIf::new(&catalog, WhatIfKeys::default());
    let mut lines = open(&args.records)?;
    let progress = Progress::new(total_bytes(&args.records), "bytes");
    let interval = if progress.is_bar() { BAR_INTERVAL } else { LINE_INTERVAL };
    let (mut shown, mut number) = (Instant::now(), 0_u64);
    while let Some(line) = lines.next().transpose()? {
        what_if.judge_line(&line);
        number += 1;
        if number.is_multiple_of(LINES_PER_LOOK) && shown.elapsed() >= interval {
            progress.show(lines.bytes())?;
            shown = Instant::now();
        }
    }
    progress.end(lines.bytes())?;
    let mut report = what_if.into_report();
    report.add_unreadable(lines.unreadable());
    if report.decisions == 0 {
        return Err(CommandError::UnusableRecords(nothing_judged(&report)));
    }
    if args.json {
        print_json(&to_json(&report));
    } else if args.csv {
        print_csv(&report)?;
        write!(io::stderr(), "{}", summary(&report))?;
    } else {
        write!(io::stdout(), "{}", summary(&report))?;
        print_rows(&report.rows(), args.rows)?;
    }
    Ok(report.newly_refused == 0)
}

/// The lines of all files.
fn open(records: &[PathBuf]) -> Result<MergedLines<Box<dyn BufRead>>, CommandError> {
    let open = |path: &PathBuf| -> Result<_, CommandError> {
        let reader: Box<dyn BufRead> = if is_stdin(path) {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let file = File::open(path);
            let file = file.map_err(|why| CommandError::UnreadableRecords(path.clone(), why))?;
            Box::new(BufReader::with_capacity(1 << 16, file))
        };
        Ok(RecordSource::new(reader))
    };
    Ok(MergedLines::new(records.iter().map(open).collect::<Result<_, _>>()?))
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The size of all files; standard input has none.
fn total_bytes(records: &[PathBuf]) -> u64 {
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    records.iter().map(size).sum()
}

fn nothing_judged(report: &WhatIfReport) -> String {
    let why = unplaced(report);
    let why = if why.is_empty() { "the records are empty".into() } else { why.join("; ") };
    format!("no check can be judged by this catalog: {why}")
}

/// The checks that were not judged, a sentence for each reason.
fn unplaced(report: &WhatIfReport) -> Vec<String> {
    let reason = |(reason, checks): (&Unplaced, &UnplacedChecks)| {
        let examples = checks.examples.iter().map(|it| cell(&it.as_str().into()));
        let examples = examples.collect::<Vec<_>>().join(", ");
        let examples = if examples.is_empty() { examples } else { format!(": {examples}") };
        format!("{} checks: {}{examples}", checks.count, reason.as_str())
    };
    report.unplaced.iter().map(reason).collect()
}

fn summary(report: &WhatIfReport) -> String {
    let mut lines = Vec::new();
    if let Some((first, last)) = report.period {
        let (first, last) = (time(first), time(last));
        lines.push(format!("{} checks from {first} to {last}", report.decisions));
    }
    lines.push(format!(
        "refused before {}, after {}: {} newly refused, {} newly allowed",
        report.refused_before, report.refused_after, report.newly_refused, report.newly_allowed
    ));
    lines.extend(unplaced(report).into_iter().map(|why| format!("not judged: {why}")));
    if report.lost > 0 {
        lines.push(format!("missing in the record, which could not be written: {}", report.lost));
    }
    lines.join("\n") + "\n"
}

fn time(at: Micros) -> String {
    let at = i64::try_from(at.get()).ok().and_then(|it| jiff::Timestamp::from_microsecond(it).ok());
    at.map_or_else(|| "-".into(), |at| at.to_string())
}

fn print_rows(rows: &[RefusalRow], most: usize) -> Result<(), CommandError> {
    let row = |row: &RefusalRow| {
        let key = row.key_id.as_ref().or(row.key.as_ref());
        let key = cell(&key.map(|key| &**key).into());
        let change = i128::from(row.after) - i128::from(row.before);
        [
            row.limit.to_string(),
            key,
            row.before.to_string(),
            row.after.to_string(),
            format!("{change:+}"),
        ]
    };
    print_table(["LIMIT", "KEY", "BEFORE", "AFTER", "CHANGE"], rows.iter().take(most).map(row));
    if rows.len() > most {
        writeln!(io::stdout(), "and {} rows more; -n shows more", rows.len() - most)?;
    }
    Ok(())
}

fn print_csv(report: &WhatIfReport) -> Result<(), CommandError> {
    let mut csv = csv::Writer::from_writer(io::stdout().lock());
    let write = |csv: &mut csv::Writer<_>, record: [&str; 5]| csv.write_record(record);
    let result = write(&mut csv, ["limit", "key_id", "key", "before", "after"]).and_then(|()| {
        for row in report.rows() {
            let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
            let (id, key) = (text(&row.key_id), text(&row.key));
            let (before, after) = (row.before.to_string(), row.after.to_string());
            write(&mut csv, [&*row.limit, &*id, &*key, &*before, &*after])?;
        }
        Ok(csv.flush()?)
    });
    result.map_err(|why| CommandError::Io(io::Error::other(why)))
}

fn to_json(report: &WhatIfReport) -> Value {
    let (first, last) = report.period.unwrap_or_default();
    json!({
        "checks": report.decisions,
        "first": time(first),
        "last": time(last),
        "refusedBefore": report.refused_before,
        "refusedAfter": report.refused_after,
        "newlyRefused": report.newly_refused,
        "newlyAllowed": report.newly_allowed,
        "notJudged": report.unplaced,
        "lost": report.lost,
        "item": report.rows(),
    })
}
