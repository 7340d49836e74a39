//! The progress of a long command on standard error: a bar on a terminal, and lines elsewhere.

use std::io::{self, IsTerminal as _, Write as _};

/// The width of the progress bar, in characters.
const BAR_WIDTH: u64 = 30;

/// The progress of a command.
pub(super) struct Progress {
    total: u64,
    unit: &'static str,
    is_bar: bool,
}

impl Progress {
    /// The progress towards `total` of `unit`; 0 if nobody knows how much there is.
    pub(super) fn new(total: u64, unit: &'static str) -> Self {
        Self { total, unit, is_bar: io::stderr().is_terminal() }
    }

    /// True if the progress is a bar on a terminal.
    pub(super) fn is_bar(&self) -> bool {
        self.is_bar
    }

    /// Shows that this much is done.
    pub(super) fn show(&self, done: u64) -> io::Result<()> {
        let (total, unit) = (self.total, self.unit);
        let so_far = match total {
            0 => format!("{done} {unit}"),
            total => format!("{done} of {total} {unit}"),
        };
        let mut stderr = io::stderr();
        if !self.is_bar {
            return if done > 0 { writeln!(stderr, "{so_far}") } else { Ok(()) };
        }
        let Some(full) = (done * BAR_WIDTH).checked_div(total) else {
            return write!(stderr, "\r{so_far}");
        };
        let bar: String = (0..BAR_WIDTH).map(|at| if at < full { '#' } else { '-' }).collect();
        write!(stderr, "\r[{bar}] {so_far}")
    }

    /// Shows the last state, and ends the line of a bar.
    pub(super) fn end(&self, done: u64) -> io::Result<()> {
        if self.is_bar && done > 0 {
            self.show(done)?;
            writeln!(io::stderr())?;
        }
        Ok(())
    }
}
