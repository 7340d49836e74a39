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
    /// The progress towards `total` of `unit`.
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
        let mut stderr = io::stderr();
        if self.is_bar {
            let full = done * BAR_WIDTH / total.max(1);
            let bar: String = (0..BAR_WIDTH).map(|at| if at < full { '#' } else { '-' }).collect();
            return write!(stderr, "\r[{bar}] {done} of {total} {unit}");
        }
        if done > 0 { writeln!(stderr, "{done} of {total} {unit}") } else { Ok(()) }
    }

    /// Shows the last state, and ends the line of a bar.
    pub(super) fn end(&self, done: u64) -> io::Result<()> {
        if self.is_bar && self.total > 0 {
            self.show(done)?;
            writeln!(io::stderr())?;
        }
        Ok(())
    }
}
