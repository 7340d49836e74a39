//! Importing API keys from AWS' CSV: `Name` and `Key`, and if wanted `Description`, `Enabled` and
//! `UsagePlanIds`.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/api-key-file-format.html>. Headers
//! in any case and order; columns that mean nothing are passed over; a value that is known already
//! changes its key. A key without `Enabled` is enabled. Messages never quote a value.

use std::collections::HashMap;

use super::key_record::{CreateKey, KeyRecord};
use super::keys::already_exists;
use super::{ControlError, Editor};
use crate::catalog::Catalog;
use crate::digest::{digest_key, encode_hex};

/// Keys that one commit makes: no more than its note can name.
const KEYS_PER_COMMIT: usize = 25;

/// One line of the file.
struct ImportRow {
    line: u64,
    value: String,
    spec: CreateKey,
    plans: Vec<String>,
}

/// What an import did.
pub struct ImportResult {
    /// The keys made or changed, in the file's order.
    pub ids: Vec<String>,
    /// Lines that were passed over, and why.
    pub warnings: Vec<String>,
}

impl Editor {
    /// Imports keys; with `fail_on_warnings` all lines or none.
    ///
    /// # Errors
    /// Where the file is no such CSV, a line cannot be used and that was to fail, or the registry
    /// is lost: what was imported until then stays.
    pub async fn import(
        &self,
        csv: &[u8],
        fail_on_warnings: bool,
    ) -> Result<ImportResult, ControlError> {
        self.sync.refresh().await?;
        let (rows, mut warnings) = parse_csv(csv, &self.live.catalog())?;
        let known = self.key_ids_by_digest(rows.iter().map(|row| digest_key(&row.value))).await?;
        let mut usable = Vec::with_capacity(rows.len());
        for (row, known) in rows.into_iter().zip(known) {
            match self.find_conflict(&row, known.as_deref()).await? {
                None => usable.push((row, known.is_some())),
                Some(why) => warnings.push(format!("line {}: {why}", row.line)),
            }
        }
        if fail_on_warnings && !warnings.is_empty() {
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
        self.refresh_after_commit().await;
        Ok(ImportResult { ids, warnings })
    }

    /// Why a line cannot be imported beside what there is, where a key may have its value.
    async fn find_conflict(
        &self,
        row: &ImportRow,
        known: Option<&str>,
    ) -> Result<Option<String>, ControlError> {
        if let Some(key) = self.live.catalog().key_by_digest(&digest_key(&row.value)) {
            return Ok(Some(ControlError::owned_by_file("API key", &key.id).to_string()));
        }
        let Some(id) = known else { return Ok(None) };
        let record = self.get_key(id).await?;
        let mut new = row.plans.iter().filter(|plan| !record.is_on(plan));
        let refused = new.find_map(|plan| self.ensure_can_join(plan, &record).err());
        Ok(refused.map(|error| error.to_string()))
    }

    /// The ids of keys made by one commit; nothing is made where one of them is known, cannot be, or
    /// has been made in the meantime.
    async fn create_batch(
        &self,
        rows: &[(ImportRow, bool)],
    ) -> Result<Option<Vec<String>>, ControlError> {
        let (mut ids, mut all) = (Vec::with_capacity(rows.len()), Vec::new());
        for (row, known) in rows {
            let new = self.prepare_key(row.spec.clone(), row.plans.clone());
            let Some(((record, _), changes)) = new.ok().filter(|_| !known) else { return Ok(None) };
            ids.push(record.id);
            all.extend(changes);
        }
        Ok(self.commit_without_refresh(&all).await?.then_some(ids))
    }

    /// Makes the key, or changes the one that has this value.
    async fn import_row(&self, row: &ImportRow) -> Result<String, ControlError> {
        let ImportRow { value, spec, plans, .. } = row;
        let Some(id) = self.key_id_by_digest(digest_key(value)).await? else {
            let ((record, _), changes) = self.prepare_key(spec.clone(), plans.clone())?;
            let made = self.commit_without_refresh(&changes).await?;
            return if made { Ok(record.id) } else { Err(already_exists()) };
        };
        let sha256 = encode_hex(&digest_key(value));
        let change = |record: &mut KeyRecord| {
            record.update_from_import(spec);
            // It may be the value before.
            if record.sha256 == sha256 {
                let sealed = self.seal.seal(&record.id, value);
                record.sealed = sealed.or(record.sealed.take());
            }
            Ok(())
        };
        self.edit_key(&id, change).await?;
        for plan in plans {
            match self.add_key_to_plan(plan, &id).await {
                Err(ControlError::Conflict(_)) if self.get_key(&id).await?.is_on(plan) => {}
                linked => drop(linked?),
            }
        }
        Ok(id)
    }
}

/// All lines of use, and what is wrong with the others.
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
    if let Some(unknown) = plans.iter().find(|plan| !catalog.has_plan(plan)) {
        return Err(format!("there is no usage plan {unknown}"));
    }
    for (place, plan) in plans.iter().enumerate() {
        if let Some(other) = plans[..place].iter().find(|other| catalog.plans_conflict(plan, other))
        {
            return Err(format!("the usage plans {other} and {plan} serve the same stage"));
        }
    }
    let spec = CreateKey::new(name, description, value, enabled);
    spec.validate().map_err(|error| error.to_string())?;
    Ok((spec, plans))
}
