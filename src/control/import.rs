//! Importing API keys from AWS' CSV: `Name` and `Key`, and if wanted `Description`, `Enabled` and
//! `UsagePlanIds`.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/api-key-file-format.html>. Headers
//! in any case and order; columns that mean nothing are passed over; a value that is known already
//! changes its key. A key without `Enabled` is enabled. Messages never quote a value.

use super::api_key::{KeyRecord, WantedKey};
use super::{Document, Editor, Error};
use crate::catalog::digest;

/// One line of the file.
struct Row {
    line: u64,
    wanted: WantedKey,
    plans: Vec<String>,
}

/// What an import did.
pub struct Imported {
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
    pub async fn import(&self, csv: &[u8], fail_on_warnings: bool) -> Result<Imported, Error> {
        let document = self.document().await?;
        let (rows, mut warnings) = read(csv, &document)?;
        if fail_on_warnings && !warnings.is_empty() {
            return Err(Error::BadRequest(warnings.join("; ")));
        }
        let mut ids = Vec::with_capacity(rows.len());
        for Row { line, wanted, plans } in rows {
            let id = match self.import_key(wanted).await {
                Ok(id) => id,
                Err(error @ (Error::Store(_) | Error::Corrupt(_))) => return Err(error),
                Err(error) => {
                    warnings.push(format!("line {line}: {error}"));
                    continue;
                }
            };
            for plan in plans {
                match self.link(&plan, &id).await {
                    Ok(_) => {}
                    Err(error @ (Error::Store(_) | Error::Corrupt(_))) => return Err(error),
                    Err(_) if self.key(&id).await?.is_on(&plan) => {}
                    Err(error) => warnings.push(format!("line {line}: {error}")),
                }
            }
            ids.push(id);
        }
        Ok(Imported { ids, warnings })
    }

    /// Makes the key, or changes the one that has this value.
    async fn import_key(&self, wanted: WantedKey) -> Result<String, Error> {
        let value = wanted.value.clone().unwrap_or_default();
        match self.id_of(&digest(&value)).await? {
            None => Ok(self.create_key(wanted).await?.0.id),
            Some(id) => Ok({
                let change = |record: &mut KeyRecord| {
                    record.become_as(&wanted);
                    Ok(())
                };
                self.edit_key(&id, change).await?.id
            }),
        }
    }
}

/// All lines of use, and what is wrong with the others.
fn read(csv: &[u8], document: &Document) -> Result<(Vec<Row>, Vec<String>), Error> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(csv);
    let unreadable = |_| Error::BadRequest("the file is no CSV in UTF-8".into());
    let headers = reader.headers().map_err(unreadable)?.clone();
    let column = |name: &str| headers.iter().position(|header| header.eq_ignore_ascii_case(name));
    let missing = |name| Error::BadRequest(format!("line 1: there is no column `{name}`"));
    let name = column("Name").ok_or_else(|| missing("Name"))?;
    let key = column("Key").ok_or_else(|| missing("Key"))?;
    let more = ["Description", "Enabled", "UsagePlanIds"].map(column);
    let (mut rows, mut warnings) = (Vec::new(), Vec::new());
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
        match row(cell(Some(name)), cell(Some(key)), description, enabled, plans, document) {
            Ok((wanted, plans)) => rows.push(Row { line, wanted, plans }),
            Err(why) => warnings.push(format!("line {line}: {why}")),
        }
    }
    Ok((rows, warnings))
}

fn row(
    name: Option<&str>,
    key: Option<&str>,
    description: Option<&str>,
    enabled: Option<&str>,
    plans: Option<&str>,
    document: &Document,
) -> Result<(WantedKey, Vec<String>), String> {
    let name = name.ok_or("it has no name")?;
    let key = key.ok_or("it has no key")?;
    let enabled = match enabled.map(str::to_ascii_lowercase).as_deref() {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => return Err("Enabled is TRUE or FALSE".into()),
    };
    let plans = plans.unwrap_or_default().trim_matches(['"', '\'']);
    let plans: Vec<String> =
        plans.split(',').map(str::trim).filter(|plan| !plan.is_empty()).map(Into::into).collect();
    if let Some(unknown) = plans.iter().find(|plan| document.plan(plan).is_err()) {
        return Err(format!("there is no usage plan {unknown}"));
    }
    let wanted = WantedKey::new(name, description, key, enabled);
    wanted.sound().map_err(|error| error.to_string())?;
    Ok((wanted, plans))
}
