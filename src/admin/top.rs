//! `GET /top`: the keys that are refused most or use most, of all nodes.
//!
//! The query has been checked by `query`. No value of an API key is known here; keys of policies
//! are what callers named.

use std::sync::Arc;

use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::error::AdminError;
use super::payload::{AdminResult, MAX_PAGE_ENTRIES, ok_response};
use crate::engine::{TopOrder, largest_rows};

/// The rows of a response unless the query says how many.
const DEFAULT_ROWS: usize = 20;

/// The query of the list.
#[derive(Default, Deserialize)]
pub(super) struct TopQuery {
    limit: Option<String>,
    by: Option<String>,
    window: Option<String>,
    n: Option<usize>,
}

impl TopQuery {
    fn order(&self) -> TopOrder {
        let is_used = self.by.as_deref() == Some("used");
        match (is_used, self.window.as_deref() == Some("hour")) {
            (false, false) => TopOrder::RefusedInMinute,
            (false, true) => TopOrder::RefusedInHour,
            (true, false) => TopOrder::UsedInMinute,
            (true, true) => TopOrder::UsedInHour,
        }
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Query(query): Query<TopQuery>,
) -> AdminResult {
    let Some(top) = &admin.top else {
        return Err(AdminError::not_found("no keys are counted here: top_keys is 0"));
    };
    // While Redis is lost, this node's own rows are better than none.
    let (mut rows, nodes) = match top.rows_of_nodes(&admin.counter_store).await {
        Ok((rows, nodes)) => (rows, Some(nodes)),
        Err(error) => {
            tracing::debug!(%error, "the frequent keys of other nodes cannot be read");
            (top.own_rows(), None)
        }
    };
    if let Some(limit) = &query.limit {
        rows.retain(|row| *row.limit == **limit);
    }
    let count = query.n.unwrap_or(DEFAULT_ROWS).min(MAX_PAGE_ENTRIES);
    let rows = largest_rows(rows, query.order(), count);
    let rows = serde_json::to_value(rows).unwrap_or_default();
    Ok(ok_response(&json!({ "item": rows, "nodes": nodes })))
}
