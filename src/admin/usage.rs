//! `/usageplans/{id}/usage` and `/usageplans/{id}/keys/{key}/usage`: the usage of keys by day, and
//! its corrections.

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

use super::auth::RequestLedger;
use super::error::AdminError;
use super::payload::{AdminResult, PageQuery, ok_response, parse_body};
use crate::control::{ControlError, ReportedDay, UsageLedger, UsageQuery};
use crate::time::MAX_EXACT;

const CSV: &str = "text/csv";
/// Keys per read of the store while a CSV file is written.
const KEYS_PER_READ: usize = 500;
/// The most days in one response, as in AWS.
const MAX_DAYS: i32 = 90;

/// The query for usage. Beyond AWS: without dates it is the usage of this month so far.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GetUsageQuery {
    start_date: Option<String>,
    end_date: Option<String>,
    key_id: Option<String>,
    unit: Option<String>,
    format: Option<String>,
    #[serde(flatten)]
    page: PageQuery,
}

impl GetUsageQuery {
    async fn to_usage_query(
        &self,
        ledger: &UsageLedger,
        plan: String,
    ) -> Result<UsageQuery, AdminError> {
        let unit = self.unit.clone().unwrap_or_else(|| "requests".into());
        if self.start_date.is_none() && self.end_date.is_none() {
            let days = ledger.month_so_far(&plan, &unit).await?;
            return Ok(UsageQuery { plan, unit, days });
        }
        let date = |name: &str, written: &Option<String>| {
            let date = written.as_deref().filter(|date| date.len() == 10).map(str::parse::<Date>);
            match date {
                Some(Ok(date)) => Ok(date),
                _ => Err(AdminError::bad_request(format!(
                    "Invalid {name}: write a day as in 2026-01-31"
                ))),
            }
        };
        let (start, end) = (date("startDate", &self.start_date)?, date("endDate", &self.end_date)?);
        if end < start {
            return Err(AdminError::bad_request("Invalid endDate: it is before startDate"));
        }
        if (end - start).get_days() >= MAX_DAYS {
            return Err(AdminError::bad_request(format!(
                "Invalid endDate: a request is for up to {MAX_DAYS} days"
            )));
        }
        Ok(UsageQuery { plan, unit, days: (start, end) })
    }
}

pub(super) async fn get(
    RequestLedger(ledger): RequestLedger,
    Path(id): Path<String>,
    Query(query): Query<GetUsageQuery>,
    headers: HeaderMap,
) -> AdminResult {
    let usage = query.to_usage_query(&ledger, id).await?;
    let (position, limit) = query.page.parse()?;
    let is_csv = match query.format.as_deref() {
        None => headers.get(ACCEPT).is_some_and(|kind| kind == CSV),
        Some("csv") => true,
        Some("json") => false,
        Some(_) => return Err(AdminError::bad_request("Invalid format: it is csv or json")),
    };
    if is_csv {
        if let Some(name) = query.page.first_given() {
            let why = format!("Invalid {name}: a CSV file has all keys, and no pages");
            return Err(AdminError::bad_request(why));
        }
        return csv_response(ledger, query, usage).await;
    }
    let mut next = None;
    let keys = if let Some(key) = &query.key_id {
        let is_after = position.is_none_or(|position| **key > *position);
        let days = ledger.key_usage(&usage, key).await?;
        vec![(key.clone(), is_after.then_some(days))]
    } else {
        let mut keys = ledger.usage_page(&usage, position, limit + 1).await?;
        let more = keys.len() > limit;
        keys.truncate(limit);
        next = keys.last().filter(|_| more).map(|(id, _)| id.clone());
        keys
    };
    let values: Map<String, Value> = keys
        .into_iter()
        .filter_map(|(id, days)| Some((id, days?.iter().map(used_and_remaining).collect())))
        .collect();
    let mut page = render_usage(&usage.plan, usage.days, values.into());
    if let Some(next) = next {
        page["position"] = next.into();
    }
    Ok(ok_response(&page))
}

/// Returns all keys of the plan, or one, as a CSV file that is streamed while the store is read. If
/// the store becomes unreachable, the response is aborted.
async fn csv_response(
    ledger: Arc<UsageLedger>,
    query: GetUsageQuery,
    usage: UsageQuery,
) -> AdminResult {
    let (mut first, mut after) = (String::from("key,plan,unit,day,used,remaining\n"), None);
    let mut more = query.key_id.is_none();
    if let Some(key) = &query.key_id {
        append_rows(&mut first, &usage, key, &ledger.key_usage(&usage, key).await?);
    } else {
        // An invalid query is an error response, so the first keys are read before the file starts.
        (after, more) = append_page(&ledger, &usage, None, &mut first).await?;
    }
    let rest = stream::try_unfold((after, more), move |(after, more)| {
        let (ledger, usage) = (Arc::clone(&ledger), usage.clone());
        async move {
            if !more {
                return Ok::<_, ControlError>(None);
            }
            let mut text = String::new();
            let next = append_page(&ledger, &usage, after.as_deref(), &mut text).await?;
            Ok(Some((text, next)))
        }
    });
    let file = stream::once(async { Ok(first) }).chain(rest);
    Ok(([(CONTENT_TYPE, CSV)], Body::from_stream(file)).into_response())
}

/// Appends the next keys; returns the last of them, and true if there may be more.
async fn append_page(
    ledger: &UsageLedger,
    usage: &UsageQuery,
    after: Option<&str>,
    text: &mut String,
) -> Result<(Option<String>, bool), ControlError> {
    let keys = ledger.usage_page(usage, after, KEYS_PER_READ).await?;
    for (key, days) in &keys {
        append_rows(text, usage, key, days.as_deref().unwrap_or_default());
    }
    let more = keys.len() == KEYS_PER_READ;
    Ok((keys.into_iter().next_back().map(|(key, _)| key), more))
}

/// Appends the days of a key. Ids and units have no characters that need quotes.
fn append_rows(
    text: &mut String,
    UsageQuery { plan, unit, .. }: &UsageQuery,
    key: &str,
    days: &[ReportedDay],
) {
    for ReportedDay { day, used, remaining } in days {
        let remaining = remaining.map_or_else(String::new, |remaining| remaining.to_string());
        let _infallible = writeln!(text, "{key},{plan},{unit},{day},{used},{remaining}");
    }
}

pub(super) async fn patch(
    RequestLedger(ledger): RequestLedger,
    Path((id, key)): Path<(String, String)>,
    body: Bytes,
) -> AdminResult {
    let day = ledger.correct(&id, &key, &parse_body(&body)?).await?;
    let values = Map::from_iter([(key, json!([used_and_remaining(&day)]))]);
    Ok(ok_response(&render_usage(&id, (day.day, day.day), values.into())))
}

fn render_usage(plan: &str, (start, end): (Date, Date), values: Value) -> Value {
    let mut response = json!({
        "usagePlanId": plan,
        "startDate": start.to_string(),
        "endDate": end.to_string(),
    });
    response["values"] = values;
    response
}

/// A day in AWS' form: units used and units left. Without a quota the latter is 2^53 - 1.
fn used_and_remaining(day: &ReportedDay) -> Value {
    json!([day.used, day.remaining.unwrap_or(MAX_EXACT.cast_signed())])
}
