//! Imports API keys from AWS' CSV format: `Name` and `Key`, optionally `Description`, `Enabled` and
//! `UsagePlanIds`.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/api-key-file-format.html>. Headers
//! in any case and order; unknown columns are ignored; a line with the value of an existing key
//! changes that key. A key without `Enabled` is enabled. Messages never quote a value.

use std::collections::HashMap;

use super::keys::KeyEditor;
use super::plan_keys::PlanKeyEditor;
use super::session::EditSession;
use crate::catalog::{Catalog, MAX_KEY_PLANS};
use crate::control::model::{ControlError, CreateKey, KeyAttributes, KeyRecord};
use crate::digest::{digest_secret, encode_hex};

/// Keys per commit: no more than its audit entry can name.
const KEYS_PER_COMMIT: usize = 25;
/// The most keys of a file.
const MAX_KEYS: usize = 100_000;
/// The most warnings in an error that says why nothing was imported.
const MAX_WARNINGS: usize = 100;

/// One line of the file.
struct ImportRow {
    line: u64,
    value: String,
    spec: CreateKey,
    plans: Vec<String>,
}

/// The result of an import.
pub struct ImportResult {
    /// The ids of the keys that were created or changed, in the file's order.
    pub ids: Vec<String>,
    /// The lines that were skipped, each with the reason.
    pub warnings: Vec<String>,
}

/// Imports API keys.
pub struct KeyImporter<'e> {
    session: &'e EditSession,
    keys: KeyEditor<'e>,
    plan_keys: PlanKeyEditor<'e>,
}

impl<'e> KeyImporter<'e> {
    pub(super) fn new(session: &'e EditSession) -> Self {
        Self { session, keys: KeyEditor::new(session), plan_keys: PlanKeyEditor::new(session) }
    }

    /// Imports the keys of a file; with `fail_on_warnings` all lines or none.
    ///
    /// # Errors
    /// If the file is no CSV with these columns, a line cannot be used and `fail_on_warnings` is
    /// set, or the registry is unreachable: the keys imported until then stay.
    pub async fn import(
        &self,
        csv: &[u8],
        fail_on_warnings: bool,
    ) -> Result<ImportResult, ControlError> {
        self.session.sync.refresh().await?;
        let (rows, mut warnings) = parse_csv(csv, &self.session.live.catalog())?;
        let known =
            self.keys.ids_by_digest(rows.iter().map(|row| digest_secret(&row.value))).await?;
        let mut usable = Vec::with_capacity(rows.len());
        for (row, known) in rows.into_iter().zip(known) {
            match self.find_conflict(&row, known.as_deref()).await? {
                None => usable.push((row, known.is_some())),
                Some(why) => warnings.push(format!("line {}: {why}", row.line)),
            }
        }
        if fail_on_warnings && !warnings.is_empty() {
            let further = warnings.len().saturating_sub(MAX_WARNINGS);
            warnings.truncate(MAX_WARNINGS);
            warnings.extend((further > 0).then(|| format!("and {further} further lines")));
            return Err(ControlError::BadRequest(warnings.join("; ")));
        }
        let mut ids = Vec::with_capacity(usable.len());
        for rows in usable.chunks(KEYS_PER_COMMIT) {
            if let Some(made) = self.create_batch(rows).await? {
                ids.extend(made);
                continue;
            }
            for (row, _) in rows {
                match self.import_row(row).await {
                    Ok(id) => ids.push(id),
                    Err(error @ (ControlError::Store(_) | ControlError::Corrupt(_))) => {
                        return Err(error);
                    }
                    Err(error) => warnings.push(format!("line {}: {error}", row.line)),
                }
            }
        }
        self.session.refresh_after_commit().await;
        Ok(ImportResult { ids, warnings })
    }

    /// The reason why a line conflicts with an existing key, if it does; `known` is the id of the
    /// registry's key with its value.
    async fn find_conflict(
        &self,
        row: &ImportRow,
        known: Option<&str>,
    ) -> Result<Option<String>, ControlError> {
        if let Some(key) = self.session.live.catalog().key_by_digest(&digest_secret(&row.value)) {
            return Ok(Some(ControlError::owned_by_file("API key", &key.id).to_string()));
        }
        let Some(id) = known else { return Ok(None) };
        let record = self.keys.get(id).await?;
        let mut new = row.plans.iter().filter(|plan| !record.is_on(plan));
        let refused = new.find_map(|plan| self.plan_keys.ensure_can_join(plan, &record).err());
        Ok(refused.map(|error| error.to_string()))
    }

    /// Creates keys in one commit, and returns their ids. `None` if one of the keys exists, is
    /// invalid, or is created by another request at the same time: then none is created.
    async fn create_batch(
        &self,
        rows: &[(ImportRow, bool)],
    ) -> Result<Option<Vec<String>>, ControlError> {
        let (mut ids, mut all) = (Vec::with_capacity(rows.len()), Vec::new());
        for (row, known) in rows {
            let new = self.keys.prepare(row.spec.clone(), row.plans.clone());
            let Some(((record, _), changes)) = new.ok().filter(|_| !known) else { return Ok(None) };
            ids.push(record.id);
            all.extend(changes);
        }
        Ok(self.session.commit_without_refresh(&all).await?.then_some(ids))
    }

    /// Creates the key, or changes the one that has this value.
    async fn import_row(&self, row: &ImportRow) -> Result<String, ControlError> {
        let ImportRow { value, spec, plans, .. } = row;
        let Some(id) = self.keys.id_by_digest(digest_secret(value)).await? else {
            let ((record, _), changes) = self.keys.prepare(spec.clone(), plans.clone())?;
            let made = self.session.commit_without_refresh(&changes).await?;
            return if made { Ok(record.id) } else { Err(ControlError::key_exists()) };
        };
        let sha256 = encode_hex(&digest_secret(value));
        let change = |record: &mut KeyRecord| {
            record.update_from_import(&spec.attributes);
            // The line may have the value that a rotation has replaced.
            if record.sha256 == sha256 {
                let sealed = self.session.seal.seal(&record.id, value);
                record.sealed = sealed.or(record.sealed.take());
            }
            Ok(())
        };
        self.keys.edit(&id, change).await?;
        for plan in plans {
            match self.plan_keys.add(plan, &id).await {
                Err(ControlError::Conflict(_)) if self.keys.get(&id).await?.is_on(plan) => {}
                linked => drop(linked?),
            }
        }
        Ok(id)
    }
}

/// The usable lines, and a warning for each of the others.
fn parse_csv(csv: &[u8], catalog: &Catalog) -> Result<(Vec<ImportRow>, Vec<String>), ControlError> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(csv);
    let unreadable = |_| ControlError::BadRequest("the file is no CSV in UTF-8".into());
    let headers = reader.headers().map_err(unreadable)?.clone();
    let column = |name: &str| headers.iter().position(|header| header.eq_ignore_ascii_case(name));
    let missing = |name| ControlError::BadRequest(format!("line 1: there is no column `{name}`"));
    let name = column("Name").ok_or_else(|| missing("Name"))?;
    let key = column("Key").ok_or_else(|| missing("Key"))?;
    let more = ["Description", "Enabled", "UsagePlanIds"].map(column);
    let (mut rows, mut warnings, mut lines) = (Vec::new(), Vec::new(), HashMap::new());
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                warnings.push(format!("line {line}: it is not in UTF-8"));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |column: Option<usize>| {
            column.and_then(|column| record.get(column)).filter(|cell| !cell.is_empty())
        };
        let [description, enabled, plans] = more.map(cell);
        let value = cell(Some(key)).unwrap_or_default();
        if let Some(earlier) = lines.get(value) {
            warnings.push(format!("line {line}: it has the same key as line {earlier}"));
            continue;
        }
        match parse_row(cell(Some(name)), value, description, enabled, plans, catalog) {
            Ok(_) if rows.len() == MAX_KEYS => {
                let why = format!("the file has more than {MAX_KEYS} keys; import it in parts");
                return Err(ControlError::BadRequest(why));
            }
            Ok((spec, plans)) => {
                lines.insert(value.to_owned(), line);
                rows.push(ImportRow { line, value: value.into(), spec, plans });
            }
            Err(why) => warnings.push(format!("line {line}: {why}")),
        }
    }
    Ok((rows, warnings))
}

fn parse_row(
    name: Option<&str>,
    value: &str,
    description: Option<&str>,
    enabled: Option<&str>,
    plans: Option<&str>,
    catalog: &Catalog,
) -> Result<(CreateKey, Vec<String>), String> {
    let name = name.ok_or("it has no name")?;
    if value.is_empty() {
        return Err("it has no key".into());
    }
    let enabled = match enabled.map(str::to_ascii_lowercase).as_deref() {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => return Err("Enabled is TRUE or FALSE".into()),
    };
    let plans = plans.unwrap_or_default().trim_matches(['"', '\'']);
    let plans: Vec<String> =
        plans.split(',').map(str::trim).filter(|plan| !plan.is_empty()).map(Into::into).collect();
    if plans.len() > MAX_KEY_PLANS {
        return Err(format!("a key is on at most {MAX_KEY_PLANS} usage plans"));
    }
    if let Some(unknown) = plans.iter().find(|plan| !catalog.has_plan(plan)) {
        return Err(format!("there is no usage plan {unknown}"));
    }
    for (place, plan) in plans.iter().enumerate() {
        if let Some(other) = plans[..place].iter().find(|other| catalog.plans_conflict(plan, other))
        {
            return Err(format!("the usage plans {other} and {plan} serve the same stage"));
        }
    }
    let attributes = KeyAttributes {
        name: Some(name.into()),
        description: description.map(Into::into),
        enabled,
        ..KeyAttributes::default()
    };
    let spec = CreateKey::new(value.into(), attributes);
    spec.validate().map_err(|error| error.to_string())?;
    Ok((spec, plans))
}
