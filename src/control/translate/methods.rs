//! Names of methods: `GET /pets` in a catalog, `/pets/GET` in a plan of AWS, `~1pets/GET` in a
//! stage.

use std::collections::BTreeMap;

use crate::catalog::raw::{RawMethod, RawMethods};
use crate::control::model::{ControlError, ThrottleSettings, escape_pointer, unescape_pointer};

use super::limits::{throttle_from_catalog, throttle_to_catalog};
use super::{Losses, lose};

/// The catalog's name of every method that is not listed.
const EVERY_METHOD: &str = "*";
/// A stage's name of every method in AWS' form.
const EVERY_STAGE_METHOD: &str = "*/*";

/// A plan's throttles of methods in the catalog's form.
pub(super) fn plan_methods_to_catalog(
    methods: &BTreeMap<String, ThrottleSettings>,
) -> Result<RawMethods, ControlError> {
    let method = |(name, throttle): (&String, &ThrottleSettings)| {
        Ok((method_to_catalog(name)?, RawMethod { throttle: throttle_to_catalog(throttle)? }))
    };
    methods.iter().map(method).collect()
}

/// A plan's throttles of methods in AWS' form.
pub(super) fn plan_methods_from_catalog(
    methods: &RawMethods,
    at: &str,
    losses: &mut Losses,
) -> BTreeMap<String, ThrottleSettings> {
    let mut translated = BTreeMap::new();
    for (name, method) in methods {
        let at = format!("{at}.methods[{name}].throttle");
        let named = split_method(name);
        if named.is_none() {
            lose(losses, at.clone(), "a plan of the API names its methods");
        }
        let (path, verb) = named.unwrap_or(("/*", EVERY_METHOD));
        let throttle = throttle_from_catalog(&method.throttle, &at, losses);
        translated.insert(format!("{path}/{verb}"), throttle);
    }
    translated
}

/// A stage's throttles of methods in the catalog's form.
pub(super) fn stage_methods_to_catalog(
    methods: &BTreeMap<String, ThrottleSettings>,
) -> Result<RawMethods, ControlError> {
    let method = |(key, throttle): (&String, &ThrottleSettings)| {
        let name = match &**key {
            EVERY_STAGE_METHOD => EVERY_METHOD.to_owned(),
            key => method_to_catalog(&unescape_pointer(key))?,
        };
        Ok((name, RawMethod { throttle: throttle_to_catalog(throttle)? }))
    };
    methods.iter().map(method).collect()
}

/// A stage's throttles of methods in AWS' form.
pub(super) fn stage_methods_from_catalog(
    methods: &RawMethods,
    at: &str,
    losses: &mut Losses,
) -> BTreeMap<String, ThrottleSettings> {
    let mut translated = BTreeMap::new();
    for (name, method) in methods {
        let at = format!("{at}.methods[{name}].throttle");
        let key = match split_method(name) {
            Some((path, verb)) => format!("{}/{verb}", escape_pointer(path)),
            None => EVERY_STAGE_METHOD.to_owned(),
        };
        translated.insert(key, throttle_from_catalog(&method.throttle, &at, losses));
    }
    translated
}

/// The path and the verb of `GET /pets`; `None` for `*`.
fn split_method(name: &str) -> Option<(&str, &str)> {
    let (verb, path) = name.split_once(char::is_whitespace)?;
    Some((path.trim(), verb))
}

/// `GET /pets` of `/pets/GET`. The root's methods are `//GET`.
fn method_to_catalog(method: &str) -> Result<String, ControlError> {
    let (path, verb) = method.rsplit_once('/').ok_or_else(|| {
        ControlError::BadRequest(format!("`{method}` is no path and method, such as /pets/GET"))
    })?;
    if verb == "*" {
        let why =
            format!("`{method}`: a throttle is for one HTTP method; name it, or ANY, instead of *");
        return Err(ControlError::BadRequest(why));
    }
    // A greedy variable, such as {proxy+}, matches the rest of the path.
    let greedy = path.rsplit_once('{').filter(|(_, name)| name.ends_with("+}"));
    let path = greedy.map_or_else(|| path.to_owned(), |(above, _)| format!("{above}*"));
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(format!("{verb} {slash}{path}"))
}
