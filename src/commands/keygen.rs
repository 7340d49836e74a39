//! `tollgate keygen`: prints a new key for the encryption of API keys' values. It is stored nowhere.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::CommandError;

/// Prints 32 random bytes in base64, as `TOLLGATE_KEY_ENCRYPTION_KEY` takes them.
///
/// # Errors
/// If the system has no random bytes, or standard output is closed.
pub fn run() -> Result<(), CommandError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(std::io::Error::other)?;
    writeln!(std::io::stdout(), "{}", STANDARD.encode(key))?;
    Ok(())
}
