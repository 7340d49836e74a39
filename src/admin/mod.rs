//! The admin API: AWS API Gateway's requests for the resources that have limits.
//!
//! Paths, members, status codes, errors and pages are AWS', so that its clients work unchanged
//! (<https://docs.aws.amazon.com/apigateway/latest/api/API_Operations.html>). The control plane
//! knows what the resources mean. Nothing here decides a check request.

mod auth;
mod account;
mod api_keys;
mod audit;
mod console;
mod documents;
mod error;
mod explain;
mod key_pages;
mod methods;
mod nodes;
mod openapi;
mod query;
mod resources;
mod responses;
mod rest_apis;
mod signature;
mod stages;
mod tags;
mod tail;
mod top;
mod usage;
mod usage_plans;
mod unserved;
mod unique_json;
mod payload;
mod policies;
mod preview;

use std::sync::{Arc, OnceLock, Weak};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, patch, post, put};

use crate::control::{EditorFactory, ResponseOwner};
use crate::engine::{Engine, NodeActivity, Recorder, TopKeys};
use crate::settings::AdminCredentials;
use crate::store::{CounterStore, MemoryStore};
use auth::Authenticator;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use signature::verify as verify_signature;
pub use tail::TailFeed;

/// The state of the handlers.
pub struct Admin {
    editors: EditorFactory,
    counter_store: CounterStore,
    top: Option<Arc<TopKeys>>,
    activity: Arc<NodeActivity>,
    authenticator: Authenticator,
    explainer: Explainer,
    feed: TailFeed,
    recorder: Option<Arc<Recorder>>,
    /// Held by the preview that is judged.
    preview_turn: tokio::sync::Mutex<()>,
}

/// The engine of a worker, which explains checks; empty until the worker runs.
pub type Explainer = Arc<OnceLock<Weak<Engine>>>;

/// The parts of an admin API.
pub struct AdminParts {
    /// Makes the editors of requests.
    pub editors: EditorFactory,
    /// The store of the counters.
    pub counter_store: CounterStore,
    /// The keys that are refused most and use most; `None` if no keys are counted.
    pub top: Option<Arc<TopKeys>>,
    /// The rates and latencies of checks, and the state of the node.
    pub activity: Arc<NodeActivity>,
    /// The credentials of which a client has one.
    pub credentials: AdminCredentials,
    /// Counts failed authentications by address.
    pub failures: MemoryStore,
    /// The engine that explains checks.
    pub explainer: Explainer,
    /// The decisions as they are made.
    pub feed: TailFeed,
    /// The record of decisions; `None` if nothing is recorded.
    pub recorder: Option<Arc<Recorder>>,
}

impl Admin {
    /// An admin API.
    #[must_use]
    pub fn new(parts: AdminParts) -> Self {
        let authenticator = Authenticator::new(parts.credentials, parts.failures);
        Self {
            editors: parts.editors,
            counter_store: parts.counter_store,
            top: parts.top,
            activity: parts.activity,
            authenticator,
            explainer: parts.explainer,
            feed: parts.feed,
            recorder: parts.recorder,
            preview_turn: tokio::sync::Mutex::default(),
        }
    }
}

/// All endpoints.
pub fn router(admin: Admin) -> Router {
    let admin = Arc::new(admin);
    api_routes()
        .merge(plan_routes())
        .route("/tags/{arn}", get(tags::get).put(tags::put).delete(tags::remove))
        .route("/openapi.json", get(openapi::document))
        .route("/audit", get(audit::list))
        .route("/policies", get(policies::list))
        .route("/policies/{name}/usage", get(policies::usage))
        .route("/policies/{name}/reset", post(policies::reset))
        .route("/top", get(top::list))
        .route("/tail", get(tail::stream))
        .route("/nodes", get(nodes::list))
        .route(explain::PATH, post(explain::explain))
        .route_layer(from_fn(query::check))
        .method_not_allowed_fallback(unserved::method)
        .fallback(unserved::path)
        // The authentication reads the body, with a limit of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(&admin), auth::authenticate))
        .merge(console::routes())
        .with_state(admin)
}

/// The account, and `RestApi`s with their resources, methods, integrations, deployments and stages.
fn api_routes() -> Router<Arc<Admin>> {
    let api = "/restapis/{id}";
    let resource = format!("{api}/resources/{{at}}");
    let method = format!("{resource}/methods/{{method}}");
    let integration = format!("{method}/integration");
    Router::new()
        .route("/account", get(account::get).patch(account::patch))
        .route("/restapis", get(rest_apis::list).post(rest_apis::create))
        .route(
            api,
            get(rest_apis::get)
                .put(rest_apis::put)
                .patch(rest_apis::patch)
                .delete(rest_apis::delete),
        )
        .route(&format!("{api}/resources"), get(resources::list))
        .route(
            &resource,
            get(resources::get)
                .post(resources::create)
                .patch(resources::patch)
                .delete(resources::delete),
        )
        .route(
            &method,
            put(methods::put).get(methods::get).patch(methods::patch).delete(methods::delete),
        )
        .route(
            &integration,
            put(methods::put_integration)
                .get(methods::get_integration)
                .patch(methods::patch_integration)
                .delete(methods::delete_integration),
        )
        .route(&format!("{method}/responses/{{status}}"), responses::routes(ResponseOwner::Method))
        .route(
            &format!("{integration}/responses/{{status}}"),
            responses::routes(ResponseOwner::Integration),
        )
        .route(
            &format!("{api}/deployments"),
            get(stages::list_deployments).post(stages::create_deployment),
        )
        .route(
            &format!("{api}/deployments/{{at}}"),
            get(stages::get_deployment)
                .patch(stages::patch_deployment)
                .delete(stages::delete_deployment),
        )
        .route(&format!("{api}/stages"), get(stages::list).post(stages::create))
        .route(
            &format!("{api}/stages/{{name}}"),
            get(stages::get).patch(stages::patch).delete(stages::delete),
        )
        .route(&format!("{api}/stages/{{name}}/exports/{{kind}}"), get(documents::export))
}

/// `ApiKey`s and `UsagePlan`s with the keys and the usage on them.
fn plan_routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/apikeys", get(api_keys::list).post(api_keys::create))
        .route("/apikeys/{id}", get(api_keys::get).patch(api_keys::patch).delete(api_keys::delete))
        .route("/apikeys/{id}/rotate", post(api_keys::rotate))
        .route("/usageplans", get(usage_plans::list).post(usage_plans::create))
        .route(
            "/usageplans/{id}",
            get(usage_plans::get).patch(usage_plans::patch).delete(usage_plans::delete),
        )
        .route("/usageplans/{id}/preview", post(preview::preview))
        .route("/usageplans/{id}/keys", post(usage_plans::add_key).get(usage_plans::list_keys))
        .route(
            "/usageplans/{id}/keys/{key}",
            get(usage_plans::get_key).delete(usage_plans::remove_key),
        )
        .route("/usageplans/{id}/keys/{key}/usage", patch(usage::patch))
        .route("/usageplans/{id}/usage", get(usage::get))
}
