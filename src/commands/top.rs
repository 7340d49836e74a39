//! `tollgate top`: the keys that are refused most or use most, once or repainted.
//!
//! The service counts and merges; nothing is computed here.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::Value;

use super::CommandError;
use super::admin::{AdminClient, encode_path_segment};
use super::table::{cell, print_json, print_table};

/// The interval between two paints of a terminal.
const REPAINT_INTERVAL: Duration = Duration::from_secs(2);

/// The arguments of `tollgate top`.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  tollgate top                                refused most in the last minute, until Ctrl-C
  tollgate top --once --window hour
  tollgate top --by used --limit basic/quota  the busiest keys of one limit

Rows are of all nodes on one Redis, those of other nodes up to 3 s old. A minute is the last 50 to
60 s, an hour the last 50 to 60 minutes. REFUSED counts checks, USED units.")]
pub struct TopArgs {
    #[command(flatten)]
    admin: AdminClient,
    /// Only this limit, by its name in the catalog, such as basic/throttle
    #[arg(long, value_name = "PLAN/NAME")]
    limit: Option<String>,
    /// The count that orders the rows
    #[arg(long, value_name = "refused|used", default_value = "refused")]
    by: String,
    /// The window whose count orders the rows
    #[arg(long, value_name = "minute|hour", default_value = "minute")]
    window: String,
    /// The number of rows
    #[arg(short = 'n', long = "rows", value_name = "NUMBER", default_value_t = 20)]
    rows: u16,
    /// Prints once; also without a terminal, and with --json
    #[arg(long)]
    once: bool,
}

/// Prints the rows, in a terminal again and again.
///
/// # Errors
/// If the service is unreachable or refuses the request.
pub async fn run(args: &TopArgs) -> Result<bool, CommandError> {
    let is_live = !args.once && !args.admin.json && std::io::stdout().is_terminal();
    loop {
        let top = args.admin.get(&args.path()).await?;
        if args.admin.json {
            print_json(&top);
            return Ok(true);
        }
        if !is_live {
            print_rows(&top);
            return Ok(true);
        }
        // Home, then clear: the lines of the last paint may have been longer.
        let _reader_closed = std::io::stdout().lock().write_all(b"\x1b[H\x1b[2J");
        print_rows(&top);
        tokio::time::sleep(REPAINT_INTERVAL).await;
    }
}

impl TopArgs {
    fn path(&self) -> String {
        let Self { by, window, rows, .. } = self;
        let (by, window) = (encode_path_segment(by), encode_path_segment(window));
        let limit = self.limit.as_ref();
        let limit = limit.map(|limit| format!("&limit={}", encode_path_segment(limit)));
        format!("/top?by={by}&window={window}&n={rows}{}", limit.unwrap_or_default())
    }
}

fn print_rows(top: &Value) {
    let rows = top["item"].as_array().map_or(&[][..], Vec::as_slice);
    let head = ["LIMIT", "KEY", "REFUSED/MIN", "USED/MIN", "REFUSED/HOUR", "USED/HOUR", "UNIT"];
    let rows = rows.iter().map(|row| {
        let key = if row["keyId"].is_null() { &row["key"] } else { &row["keyId"] };
        let (minute, hour) = (&row["minute"], &row["hour"]);
        let counts = [&minute["refused"], &minute["used"], &hour["refused"], &hour["used"]];
        let [refused, used, refused_in_hour, used_in_hour] = counts.map(cell);
        let (limit, key, unit) = (cell(&row["limit"]), cell(key), cell(&row["unit"]));
        [limit, key, refused, used, refused_in_hour, used_in_hour, unit]
    });
    print_table(head, rows);
}
