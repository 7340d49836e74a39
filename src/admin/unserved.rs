//! The responses to requests that no endpoint serves.
//!
//! AWS' requests for resources that Tollgate does not have are 501 and say so. 404 would be wrong:
//! to AWS' clients it means that the resource is gone.

use axum::extract::Request;
use axum::http::StatusCode;

use super::error::AdminError;

/// The response to a request for a path that is not served.
pub(super) async fn path(request: Request) -> AdminError {
    let path = request.uri().path();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let Some(family) = family(&segments) else {
        let path: String = path.chars().take(100).collect();
        return AdminError::not_found(format!("the admin API has nothing at {path}"));
    };
    not_served(family)
}

/// The error response to a request for resources of AWS that Tollgate does not have.
pub(super) fn not_served(family: &str) -> AdminError {
    let why = format!(
        "Tollgate does not serve {family}; docs/admin-api.md lists the requests that it serves"
    );
    AdminError::new(StatusCode::NOT_IMPLEMENTED, "NotImplementedException", why)
}

/// The response to a request with another method than those of its path.
pub(super) async fn method() -> AdminError {
    let why = "this path is served with another method";
    AdminError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowedException", why)
}

/// The resources of AWS at a path, if there are any that Tollgate does not have.
fn family(path: &[&str]) -> Option<&'static str> {
    Some(match path {
        ["clientcertificates", ..] => "client certificates",
        ["domainnames", ..] => "domain names and base path mappings",
        ["domainnameaccessassociations" | "rejectdomainnameaccessassociations", ..] => {
            "access associations of domain names"
        }
        ["sdktypes", ..] | ["restapis", _, "stages", _, "sdks", ..] => "SDKs",
        ["vpclinks", ..] => "VPC links",
        ["restapis", _, "authorizers", ..] => "authorizers",
        ["restapis", _, "documentation", ..] => "documentation",
        ["restapis", _, "gatewayresponses", ..] => "gateway responses",
        ["restapis", _, "models", ..] => "models",
        ["restapis", _, "requestvalidators", ..] => "request validators",
        ["restapis", _, "stages", _, "cache", ..] => "the caches of stages",
        _ => return None,
    })
}
