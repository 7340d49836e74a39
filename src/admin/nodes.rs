//! `GET /nodes`: the nodes of this store, each with the rates and latencies of its checks and its
//! state.

use std::sync::Arc;

use axum::extract::State;
use serde_json::json;

use super::Admin;
use super::payload::{AdminResult, ok_response};

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> AdminResult {
    // While Redis is lost, this node's own report is better than none.
    let (reports, is_complete) = match admin.activity.reports_of_nodes(&admin.counter_store).await {
        Ok(reports) => (reports, true),
        Err(error) => {
            tracing::debug!(%error, "the activity of other nodes cannot be read");
            (vec![admin.activity.own_report()], false)
        }
    };
    Ok(ok_response(&json!({ "item": reports, "complete": is_complete })))
}
