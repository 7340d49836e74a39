//! The recorder of decisions, as the settings have it.

use std::thread::JoinHandle;

use super::StartError;
use crate::engine::Recorder;
use crate::settings::Settings;

/// The recorder and its thread, if decisions are recorded.
pub(super) fn open_recorder(
    settings: &Settings,
) -> Result<Option<(Recorder, JoinHandle<()>)>, StartError> {
    let Some(record) = &settings.record else { return Ok(None) };
    let opened = Recorder::open(record.clone());
    opened.map(Some).map_err(|why| StartError::Record(record.path.clone(), why))
}
