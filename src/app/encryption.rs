//! The keys that encrypt the values of API keys: configured, or made by the node where no other
//! node needs them.

use super::StartError;
use crate::control::Seal;
use crate::settings::Settings;
use crate::store::DataDir;

/// The file of the data directory with the node's own encryption key.
const KEY_FILE: &str = "key_encryption_key";

/// The seal for values. Without a configured key, a node that keeps its own resources makes one:
/// beside them in the data directory, or for the life of the process. The file's key decrypts in
/// any case. Nodes on one Redis need the same key, and it must not be in that Redis.
///
/// # Errors
/// If the file of the data directory cannot be used.
pub(super) fn open_seal(
    settings: &Settings,
    data_dir: Option<&DataDir>,
) -> Result<Seal, StartError> {
    let mut keys = settings.key_encryption_keys.0.clone();
    match data_dir {
        Some(dir) if keys.is_empty() || dir.has_file(KEY_FILE) => {
            keys.push(dir.encryption_key(KEY_FILE).map_err(StartError::DataDir)?);
        }
        None if keys.is_empty() && settings.store.is_memory() => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(std::io::Error::other)?;
            keys.push(key);
        }
        _ => {}
    }
    if keys.is_empty() && settings.admin.access_key.is_some() {
        tracing::warn!(
            "TOLLGATE_KEY_ENCRYPTION_KEY is missing: values of API keys are not kept, so programs such as Terraform cannot read them, and may not choose them; set the same key on all nodes, `tollgate keygen` prints one"
        );
    }
    Ok(Seal::new(&keys))
}
