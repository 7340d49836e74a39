//! The settings of a stage's methods. Only throttles have an effect; the others (logging, caching)
//! are kept and returned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::ControlError;
use super::limit_settings::ThrottleSettings;
use super::member_patch::read_value;
use super::member_types::{MemberType, Members};
use super::method_keys;
use super::patch::{PatchOp, PatchOperation, escape_pointer, unescape_pointer};

/// Settings by the path and method of the request: `*/*`, or `~1pets/GET`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct MethodSettings(BTreeMap<String, Members>);

/// The type of a setting.
#[derive(Clone, Copy)]
enum SettingType {
    /// Requests per second; -1 is AWS' value for no limit.
    Rate,
    /// A bucket's capacity in requests; -1 is AWS' value for no limit.
    Burst,
    /// A setting without effect.
    Kept(MemberType),
}

/// The member of a method's settings that is its rate.
const RATE_MEMBER: &str = "throttlingRateLimit";
/// The member of a method's settings that is its burst.
const BURST_MEMBER: &str = "throttlingBurstLimit";

/// The setting of who may send a request past the cache.
const CONTROL: &str = "requireAuthorizationForCacheControl";
/// The setting of the response to those who may not.
const STRATEGY: &str = "unauthorizedCacheControlHeaderStrategy";

/// The settings of a method: the group and the name by which a patch calls each, its member, and
/// its type.
const METHOD_SETTINGS: [(&str, &str, &str, SettingType); 10] = {
    use SettingType::{Burst, Kept, Rate};
    const FLAG: SettingType = Kept(MemberType::Flag);
    const LEVEL: MemberType = MemberType::OneOf(&["OFF", "ERROR", "INFO"]);
    const STRATEGIES: MemberType = MemberType::OneOf(&[
        "FAIL_WITH_403",
        "SUCCEED_WITH_RESPONSE_HEADER",
        "SUCCEED_WITHOUT_RESPONSE_HEADER",
    ]);
    [
        ("throttling", "rateLimit", RATE_MEMBER, Rate),
        ("throttling", "burstLimit", BURST_MEMBER, Burst),
        ("metrics", "enabled", "metricsEnabled", FLAG),
        ("logging", "loglevel", "loggingLevel", Kept(LEVEL)),
        ("logging", "dataTrace", "dataTraceEnabled", FLAG),
        ("caching", "enabled", "cachingEnabled", FLAG),
        ("caching", "ttlInSeconds", "cacheTtlInSeconds", Kept(MemberType::Whole(0, 3_600))),
        ("caching", "dataEncrypted", "cacheDataEncrypted", FLAG),
        ("caching", CONTROL, CONTROL, FLAG),
        ("caching", STRATEGY, STRATEGY, Kept(STRATEGIES)),
    ]
};

impl SettingType {
    /// The value of an operation as one of this type.
    fn read_value(self, operation: &PatchOperation) -> Result<Option<Value>, ControlError> {
        match self {
            Self::Rate => {
                let rate: f64 = operation.parse_value()?;
                let is_none = rate.to_bits() == (-1.0_f64).to_bits();
                let is_rate = is_none || rate.is_finite() && rate > 0.0;
                let why = "a rate is above 0, or -1 for no limit";
                is_rate.then(|| Some(rate.into())).ok_or_else(|| operation.error(why))
            }
            Self::Burst => {
                let burst: i64 = operation.parse_value()?;
                let why = "a burst is at least 1, or -1 for as much as the rate's second";
                let is_burst = burst == -1 || burst > 0;
                is_burst.then(|| Some(burst.into())).ok_or_else(|| operation.error(why))
            }
            Self::Kept(kind) => read_value(kind, operation),
        }
    }
}

impl MethodSettings {
    /// Settings with these throttles alone.
    pub(super) fn from_throttles(throttles: &BTreeMap<String, ThrottleSettings>) -> Self {
        let settings = |throttle: &ThrottleSettings| {
            let rate = (RATE_MEMBER.to_owned(), throttle.rate_limit.into());
            Members::from_iter([rate, (BURST_MEMBER.to_owned(), throttle.burst_limit.into())])
        };
        Self(throttles.iter().map(|(key, throttle)| (key.clone(), settings(throttle))).collect())
    }

    /// Applies an operation; false if its path is not that of a method's settings.
    pub(super) fn patch(
        &mut self,
        (op, path): (PatchOp, &[&str]),
        operation: &PatchOperation,
    ) -> Result<bool, ControlError> {
        match (op, path) {
            (PatchOp::Set, [method @ .., group, name]) if method.len() > 1 => {
                let named =
                    METHOD_SETTINGS.iter().find(|(of, known, ..)| (of, known) == (group, name));
                let Some((_, _, member, kind)) = named else { return Ok(false) };
                let key = method_key(method, operation)?;
                let value = kind.read_value(operation)?;
                let settings = method_keys::entry(&mut self.0, key, unescape_pointer);
                settings.extend(value.map(|value| ((*member).to_owned(), value)));
                Ok(true)
            }
            (PatchOp::Remove, [_, .., _]) => {
                let key = method_key(path, operation)?;
                let was = method_keys::remove(&mut self.0, &key, unescape_pointer);
                was.map(|_| true).ok_or_else(|| {
                    let at = path.join("/");
                    ControlError::BadRequest(format!("Cannot remove method setting {at} because there is no method setting for this method "))
                })
            }
            _ => Ok(false),
        }
    }

    /// The settings in AWS' responses, with AWS' defaults. Its default throttle is the account's, of
    /// which there is none here, so that it is -1.
    pub(super) fn to_aws_json(&self) -> Value {
        let shown = self.0.iter().map(|(method, settings)| {
            let defaults = [
                (RATE_MEMBER, json!(-1.0)),
                (BURST_MEMBER, json!(-1)),
                ("metricsEnabled", json!(false)),
                ("dataTraceEnabled", json!(false)),
                ("cachingEnabled", json!(false)),
                ("cacheTtlInSeconds", json!(300)),
                ("cacheDataEncrypted", json!(false)),
                (CONTROL, json!(true)),
                (STRATEGY, json!("SUCCEED_WITH_RESPONSE_HEADER")),
            ];
            let mut shown = settings.clone();
            for (name, default) in defaults {
                let value = shown.entry(name).or_insert(Value::Null);
                if value.is_null() {
                    *value = default;
                }
            }
            (method.clone(), Value::from(shown))
        });
        shown.collect()
    }

    /// The throttles among them: those with a rate above 0.
    pub(super) fn throttles(&self) -> BTreeMap<String, ThrottleSettings> {
        let throttle = |settings: &Members| {
            let number = |name: &str| settings.get(name).and_then(Value::as_f64);
            let rate_limit = Some(number(RATE_MEMBER).filter(|rate| *rate > 0.0)?);
            #[expect(clippy::cast_possible_truncation, reason = "saturates, and is then refused")]
            let burst_limit = number(BURST_MEMBER).map(|burst| burst as i64);
            let burst_limit = burst_limit.filter(|burst| *burst != -1);
            Some(ThrottleSettings { rate_limit, burst_limit })
        };
        let methods = self.0.iter();
        methods.filter_map(|(key, it)| Some((key.clone(), throttle(it)?))).collect()
    }
}

/// The key of a method's settings: its path, escaped as in the patch, and the method.
fn method_key(segments: &[&str], operation: &PatchOperation) -> Result<String, ControlError> {
    method_keys::ensure_method(segments, operation)?;
    let escaped: Vec<String> = segments.iter().map(|segment| escape_pointer(segment)).collect();
    Ok(escaped.join("/"))
}
