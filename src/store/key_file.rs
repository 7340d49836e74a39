//! A file with an encryption key in the data directory, made at the first start.
//!
//! It protects copies of the databases that do not include it, not the folder as a whole. A file
//! that exists is read and never replaced. The use of the key is not known here.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{DataDir, DataDirError};

/// The longest file that is read, in bytes: a key has 44.
const MAX_FILE_BYTES: u64 = 1024;

impl DataDir {
    /// The encryption key in the file `name`, 32 bytes. A file that does not exist is made with a
    /// random key, for its owner alone. The caller holds the lock of a database in the folder, so
    /// no other process makes the file at the same time.
    ///
    /// # Errors
    /// If the file cannot be read or made, or holds no key.
    pub fn encryption_key(&self, name: &str) -> Result<[u8; 32], DataDirError> {
        let path = self.folder().join(name);
        let failed = |why: String| DataDirError::KeyFile(path.clone(), why);
        match read(&path) {
            Ok(text) => {
                let key = STANDARD.decode(text.trim()).ok().and_then(|key| key.try_into().ok());
                key.ok_or_else(|| failed("it does not hold 32 bytes in base64".into()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(self.folder(), &path).map_err(|error| failed(error.to_string()))
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let file = File::open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Makes the file whole or not at all: a crash leaves no half of a key.
fn create(folder: &Path, path: &Path) -> std::io::Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(std::io::Error::other)?;
    let unfinished = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{}", STANDARD.encode(key))?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    File::open(folder)?.sync_all()?;
    Ok(key)
}
