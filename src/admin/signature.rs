//! Signature Version 4: verifies that a request was signed with an access key.
//!
//! AWS' own signer signs the request again, over the headers that the client lists, and the two
//! signatures are compared. The head is checked before the body is read.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-signing-elements.html>

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use axum::http::request::Parts;
use subtle::ConstantTimeEq as _;

use crate::settings::AccessKey;
use crate::time::{Clock as _, SystemClock};

/// The largest difference between the clocks of the client and of this node in seconds, as in AWS.
const MAX_CLOCK_SKEW_SECS: u64 = 15 * 60;

/// The service for which AWS' clients of API Gateway sign. Their region may be any: a node has
/// none.
const SERVICE: &str = "apigateway";

/// The parsed header `Authorization: AWS4-HMAC-SHA256 …`.
struct SigV4Header<'a> {
    key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    headers: &'a str,
    signature: &'a str,
}

impl<'a> SigV4Header<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let fields = header.strip_prefix("AWS4-HMAC-SHA256")?;
        let field = |name: &str| {
            fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
        };
        let mut scope = field("Credential")?.split('/');
        let (key_id, date) = (scope.next()?, scope.next()?);
        let (region, service, end) = (scope.next()?, scope.next()?, scope.next()?);
        let (headers, signature) = (field("SignedHeaders")?, field("Signature")?);
        let authorization = Self { key_id, date, region, service, headers, signature };
        (end == "aws4_request" && scope.next().is_none()).then_some(authorization)
    }
}

/// The reason why a signature is invalid: AWS' error type and sentence.
pub(super) type SignatureError = (&'static str, &'static str);

const SIGNATURE_MISMATCH: SignatureError = (
    "InvalidSignatureException",
    "The request signature we calculated does not match the signature you provided. Check your secret access key and signing method.",
);
const INCOMPLETE_SIGNATURE: SignatureError =
    ("IncompleteSignatureException", "The Authorization header is not a whole SigV4 signature");

/// The head of a request that may have been signed with a key. Only the body can tell.
pub(super) struct SignedHead<'a> {
    key: &'a AccessKey,
    request: &'a Parts,
    authorization: SigV4Header<'a>,
    signed: Vec<&'a str>,
    time: SystemTime,
}

impl<'a> SignedHead<'a> {
    /// Checks all that the head says: a whole signature, of `key`, within the last minutes, over
    /// the headers that have to be signed.
    pub(super) fn check(key: &'a AccessKey, request: &'a Parts) -> Result<Self, SignatureError> {
        let text = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        let authorization =
            text("authorization").and_then(SigV4Header::parse).ok_or(INCOMPLETE_SIGNATURE)?;
        if authorization.key_id != key.id {
            let why = "The security token included in the request is invalid.";
            return Err(("UnrecognizedClientException", why));
        }
        if authorization.service != SERVICE {
            let why = "Credential should be scoped to correct service: 'apigateway'.";
            return Err(("InvalidSignatureException", why));
        }
        let stamp = text("x-amz-date").ok_or(INCOMPLETE_SIGNATURE)?;
        let time = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", stamp)
            .and_then(|time| time.to_datetime())
            .and_then(|time| jiff::tz::TimeZone::UTC.to_timestamp(time))
            .map_err(|_| INCOMPLETE_SIGNATURE)?;
        let seconds = u64::try_from(time.as_second()).map_err(|_| INCOMPLETE_SIGNATURE)?;
        let skew = (SystemClock.now().get() / 1_000_000).abs_diff(seconds);
        if skew > MAX_CLOCK_SKEW_SECS || !stamp.starts_with(authorization.date) {
            return Err(("InvalidSignatureException", "Signature expired: look at the clocks"));
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        // These two headers must be signed: otherwise they could be altered on the way.
        let signed: Vec<&str> = authorization.headers.split(';').collect();
        if !["host", "x-amz-date"].iter().all(|header| signed.contains(header)) {
            return Err(INCOMPLETE_SIGNATURE);
        }
        Ok(Self { key, request, authorization, signed, time })
    }

    /// The id of the key.
    pub(super) fn key_id(&self) -> &'a str {
        &self.key.id
    }

    /// Checks that the request was signed with the key, and with this body.
    pub(super) fn verify(&self, body: &[u8]) -> Result<(), SignatureError> {
        let Self { key, request, authorization, signed, time } = self;
        let expected = expected_signature(key, authorization, signed, *time, request, body)
            .ok_or(INCOMPLETE_SIGNATURE)?;
        let same = expected.as_bytes().ct_eq(authorization.signature.as_bytes());
        if same.into() { Ok(()) } else { Err(SIGNATURE_MISMATCH) }
    }
}

/// Checks that `request` was signed with `key` within the last minutes.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn verify(key: &AccessKey, request: &Parts, body: &[u8]) -> Result<(), SignatureError> {
    SignedHead::check(key, request)?.verify(body)
}

/// The signature that the request would have from `key`.
fn expected_signature(
    key: &AccessKey,
    authorization: &SigV4Header<'_>,
    signed: &[&str],
    time: SystemTime,
    request: &Parts,
    body: &[u8],
) -> Option<String> {
    let identity = Credentials::new(&key.id, &key.secret, None, None, "settings").into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(authorization.region)
        .name(authorization.service)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .ok()?
        .into();
    let headers = request.headers.iter().filter(|(name, _)| signed.contains(&name.as_str()));
    let headers: Vec<(&str, &str)> = headers
        .map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect::<Option<_>>()?;
    let host = request.headers.get("host")?.to_str().ok()?;
    let uri = format!("http://{host}{}", request.uri.path_and_query()?);
    let body = SignableBody::Bytes(body);
    let request = SignableRequest::new(request.method.as_str(), uri, headers.into_iter(), body);
    Some(sign(request.ok()?, &parameters).ok()?.into_parts().1)
}
