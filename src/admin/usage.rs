//! `/usageplans/{id}/usage` and `/usageplans/{id}/keys/{key}/usage`: what keys have used by day, and
//! corrections of it.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::IntoResponse as _;
use futures_util::{StreamExt as _, stream};
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access::Counting;
use super::failure::Failure;
use super::wire::{Answer, Wanted, parse, shown};
use crate::control::{Error, Ledger, Line, WantedUsage};
use crate::time::MAX_EXACT;

const CSV: &str = "text/csv";
/// How many keys a file is read by.
const PAGE: usize = 500;
/// The longest time that one call tells of, in days, as in AWS.
const LONGEST: i32 = 90;

/// Whose usage, and when. Beyond AWS: without dates, of this month so far.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    start_date: Option<String>,
    end_date: Option<String>,
    key_id: Option<String>,
    unit: Option<String>,
    format: Option<String>,
    #[serde(flatten)]
    wanted: Wanted,
}

impl Asked {
    async fn read(&self, ledger: &Ledger, plan: String) -> Result<WantedUsage, Failure> {
        let unit = self.unit.clone().unwrap_or_else(|| "requests".into());
        if self.start_date.is_none() && self.end_date.is_none() {
            let days = ledger.month_so_far(&plan, &unit).await?;
            return Ok(WantedUsage { plan, unit, days });
        }
        let date = |name: &str, written: &Option<String>| {
            let date = written.as_deref().filter(|date| date.len() == 10).map(str::parse::<Date>);
            match date {
                Some(Ok(date)) => Ok(date),
                _ => Err(Failure::bad_request(format!(
                    "Invalid {name}: write a day as in 2026-01-31"
                ))),
            }
        };
        let (start, end) = (date("startDate", &self.start_date)?, date("endDate", &self.end_date)?);
        if end < start {
            return Err(Failure::bad_request("Invalid endDate: it is before startDate"));
        }
        if (end - start).get_days() >= LONGEST {
            return Err(Failure::bad_request(format!(
                "Invalid endDate: a call tells of up to {LONGEST} days"
            )));
        }
        Ok(WantedUsage { plan, unit, days: (start, end) })
    }
}

pub(super) async fn get(
    Counting(ledger): Counting,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Answer {
    let usage = asked.read(&ledger, id).await?;
    let (position, limit) = asked.wanted.read()?;
    match asked.format.as_deref() {
        None if headers.get(ACCEPT).is_some_and(|kind| kind == CSV) => {
            return csv(ledger, asked, usage).await;
        }
        Some("csv") => return csv(ledger, asked, usage).await,
        None | Some("json") => {}
        Some(_) => return Err(Failure::bad_request("Invalid format: it is csv or json")),
    }
    let mut next = None;
    let keys = if let Some(key) = &asked.key_id {
        vec![(key.clone(), ledger.one(&usage, key).await?)]
    } else {
        let mut keys = ledger.page(&usage, position, limit + 1).await?;
        let more = keys.len() > limit;
        keys.truncate(limit);
        next = keys.last().filter(|_| more).map(|(id, _)| id.clone());
        keys
    };
    let values: Map<String, Value> =
        keys.into_iter().map(|(id, lines)| (id, lines.iter().map(pair).collect())).collect();
    let mut page = told(&usage.plan, usage.days, values.into());
    if let Some(next) = next {
        page["position"] = next.into();
    }
    Ok(shown(&page))
}

/// All keys of the plan, or one, as a file that is written while it is read from the store. Where
/// the store is lost on the way, the answer breaks off.
async fn csv(ledger: Arc<Ledger>, asked: Asked, usage: WantedUsage) -> Answer {
    let (mut first, mut after) = (String::from("key,plan,unit,day,used,remaining\n"), None);
    let mut more = asked.key_id.is_none();
    if let Some(key) = &asked.key_id {
        append(&mut first, &usage, key, &ledger.one(&usage, key).await?);
    } else {
        // What is wrong with the question is said before the file begins.
        (after, more) = page(&ledger, &usage, None, &mut first).await?;
    }
    let rest = stream::try_unfold((after, more), move |(after, more)| {
        let (ledger, usage) = (Arc::clone(&ledger), usage.clone());
        async move {
            if !more {
                return Ok::<_, Error>(None);
            }
            let mut text = String::new();
            let next = page(&ledger, &usage, after.as_deref(), &mut text).await?;
            Ok(Some((text, next)))
        }
    });
    let file = stream::once(async { Ok(first) }).chain(rest);
    Ok(([(CONTENT_TYPE, CSV)], Body::from_stream(file)).into_response())
}

/// Appends the next keys; returns the last of them, and whether there may be more.
async fn page(
    ledger: &Ledger,
    usage: &WantedUsage,
    after: Option<&str>,
    text: &mut String,
) -> Result<(Option<String>, bool), Error> {
    let keys = ledger.page(usage, after, PAGE).await?;
    for (key, lines) in &keys {
        append(text, usage, key, lines);
    }
    let more = keys.len() == PAGE;
    Ok((keys.into_iter().next_back().map(|(key, _)| key), more))
}

/// Ids and units have no character that would need quotes.
fn append(
    text: &mut String,
    WantedUsage { plan, unit, .. }: &WantedUsage,
    key: &str,
    lines: &[Line],
) {
    for Line { day, used, remaining } in lines {
        let remaining = remaining.map_or_else(String::new, |remaining| remaining.to_string());
        let _infallible = writeln!(text, "{key},{plan},{unit},{day},{used},{remaining}");
    }
}

pub(super) async fn patch(
    Counting(ledger): Counting,
    Path((id, key)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let line = ledger.correct(&id, &key, &parse(&body)?).await?;
    let values = Map::from_iter([(key, json!([pair(&line)]))]);
    Ok(shown(&told(&id, (line.day, line.day), values.into())))
}

fn told(plan: &str, (start, end): (Date, Date), values: Value) -> Value {
    let mut told = json!({
        "usagePlanId": plan,
        "startDate": start.to_string(),
        "endDate": end.to_string(),
    });
    told["values"] = values;
    told
}

/// A day as AWS has it. Without a quota there remains the largest number that is exact.
fn pair(line: &Line) -> Value {
    json!([line.used, line.remaining.unwrap_or(MAX_EXACT.cast_signed())])
}
