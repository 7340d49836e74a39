//! Patches of the members that are kept: the text of an operation becomes a value of the member's
//! type.
//!
//! The types are in `member_types`. Slashes in the name of an entry may be escaped or not.

use serde_json::{Map, Value};

use super::error::ControlError;
use super::member_types::{MemberType, MemberTypes, Members, NO_POLICY, is_json_object};
use super::patch::{Patch, PatchOp, PatchOperation};

/// Applies all operations to members of these types.
pub(super) fn patch_all(
    members: &mut Members,
    types: MemberTypes,
    patch: &Patch,
) -> Result<(), ControlError> {
    patch.operations()?.iter().try_for_each(|operation| {
        let (op, segments) = operation.op_and_path()?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        patch_members(members, types, (op, &segments), operation)
    })
}

/// Applies an operation to the members of a resource; `path` is the operation's path in them.
///
/// # Errors
/// If there is no such member, or the value is not of its type. The error names both.
pub(super) fn patch_members(
    members: &mut Members,
    types: MemberTypes,
    (op, path): (PatchOp, &[&str]),
    operation: &PatchOperation,
) -> Result<(), ControlError> {
    let [name, below @ ..] = path else { return Err(operation.unknown_path()) };
    let kind = types.iter().find(|(known, _)| known == name);
    let (_, kind) = kind.ok_or_else(|| operation.unknown_path())?;
    match kind {
        MemberType::TextList | MemberType::TextSet | MemberType::WordList(_) => {
            let mut items = match members.remove(*name) {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let patched = patch_list(&mut items, *kind, (op, below), operation);
            if !items.is_empty() {
                members.insert((*name).into(), items.into());
            }
            patched
        }
        MemberType::TextMap | MemberType::FlagMap | MemberType::Object(_) => {
            if let (PatchOp::Remove, []) = (op, below) {
                members.remove(*name);
                return Ok(());
            }
            let mut object = match members.remove(*name) {
                Some(Value::Object(object)) => object,
                _ => Map::new(),
            };
            let patched = patch_object(&mut object, *kind, (op, below), operation);
            if !object.is_empty() {
                members.insert((*name).into(), object.into());
            }
            patched
        }
        kind => match (op, below) {
            (PatchOp::Set, []) => {
                match read_value(*kind, operation)? {
                    Some(value) => members.insert((*name).into(), value),
                    None => members.remove(*name),
                };
                Ok(())
            }
            (PatchOp::Remove, []) if is_removable(*kind) => {
                members.remove(*name);
                Ok(())
            }
            (PatchOp::Remove, []) => Err(operation.error("it can be replaced, not removed")),
            _ => Err(operation.unknown_path()),
        },
    }
}

/// True if a member of this type may be absent, as at AWS.
fn is_removable(kind: MemberType) -> bool {
    use MemberType::{Json, OptionalOneOf, Text, Whole};
    matches!(kind, Text | Json | Whole(..) | OptionalOneOf(_))
}

/// The value of an operation as one of this type; `None` if the operation removes the member, as
/// one without a value does.
pub(super) fn read_value(
    kind: MemberType,
    operation: &PatchOperation,
) -> Result<Option<Value>, ControlError> {
    if operation.text().is_none() && is_removable(kind) {
        return Ok(None);
    }
    let text = operation.value()?;
    let read = match kind {
        MemberType::OptionalOneOf(_) | MemberType::Json | MemberType::Whole(..)
            if text.is_empty() =>
        {
            return Ok(None);
        }
        MemberType::Json if is_json_object(text) => Some(text.into()),
        MemberType::Json => return Err(ControlError::BadRequest(NO_POLICY.into())),
        MemberType::OneOf(words) | MemberType::OptionalOneOf(words) => {
            words.contains(&text).then(|| text.into())
        }
        MemberType::Flag if text.eq_ignore_ascii_case("true") => Some(true.into()),
        MemberType::Flag if text.eq_ignore_ascii_case("false") => Some(false.into()),
        MemberType::Whole(least, most) => {
            let number = text.parse().ok().filter(|number| (least..=most).contains(number));
            number.map(Value::from)
        }
        MemberType::Number(least, most) => {
            let number = text.parse().ok().filter(|number| (least..=most).contains(number));
            number.map(Value::from)
        }
        MemberType::Text => Some(text.into()),
        _ => None,
    };
    let expected = || operation.error(&format!("expected {}", kind.description()));
    read.map(Some).ok_or_else(expected)
}

/// Sets or removes one entry of an object.
fn patch_object(
    object: &mut Members,
    kind: MemberType,
    (op, below): (PatchOp, &[&str]),
    operation: &PatchOperation,
) -> Result<(), ControlError> {
    let entry = match kind {
        MemberType::Object(types) if !below.is_empty() => {
            return patch_members(object, types, (op, below), operation);
        }
        MemberType::TextMap if !below.is_empty() => MemberType::Text,
        MemberType::FlagMap if !below.is_empty() => MemberType::Flag,
        _ => return Err(operation.bad_path("patch the members of the object, one by one")),
    };
    let name = below.join("/");
    match op {
        PatchOp::Set => {
            operation.value()?;
            object.extend(read_value(entry, operation)?.map(|value| (name, value)));
        }
        PatchOp::Remove => drop(object.remove(&name)),
    }
    Ok(())
}

/// Adds, replaces or removes one item of a list.
fn patch_list(
    items: &mut Vec<Value>,
    kind: MemberType,
    (op, below): (PatchOp, &[&str]),
    operation: &PatchOperation,
) -> Result<(), ControlError> {
    let named = below.join("/");
    let item = match kind {
        MemberType::TextList if below.is_empty() => operation.value()?.to_owned(),
        MemberType::TextSet if !below.is_empty() => named,
        MemberType::WordList(words) if op == PatchOp::Set && !below.is_empty() => {
            let word = operation.value()?;
            let place = match named.parse::<usize>() {
                Ok(place) => Some(place).filter(|place| *place < items.len()),
                Err(_) => items.iter().position(|item| *item == *named),
            };
            let place = place.ok_or_else(|| operation.error("the list has no such item"))?;
            if !words.contains(&word) {
                return Err(operation.error(&format!("expected one of {}", words.join(", "))));
            }
            items[place] = word.into();
            return Ok(());
        }
        MemberType::TextSet => {
            return Err(operation.bad_path("name the item in the path, its slashes as ~1"));
        }
        _ => return Err(operation.unknown_path()),
    };
    let place = items.iter().position(|other| *other == *item);
    match (op, place) {
        (PatchOp::Set, Some(place)) => {
            // `replace` of a named item has the new one in its value.
            if let Some(replacement) = operation.text().filter(|text| !text.is_empty()) {
                items.remove(place);
                items.push(replacement.into());
            }
        }
        (PatchOp::Set, None) => items.push(item.into()),
        (PatchOp::Remove, Some(place)) => drop(items.remove(place)),
        (PatchOp::Remove, None) => return Err(operation.error("the list has no such item")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TYPES: MemberTypes = &[
        ("text", MemberType::Text),
        ("policy", MemberType::Json),
        ("flag", MemberType::Flag),
        ("whole", MemberType::Whole(0, 10)),
        ("share", MemberType::Number(0.0, 100.0)),
        ("word", MemberType::OneOf(&["A", "B"])),
        ("handling", MemberType::OptionalOneOf(&["A", "B"])),
        ("scopes", MemberType::TextList),
        ("media", MemberType::TextSet),
        ("kinds", MemberType::WordList(&["A", "B"])),
        ("texts", MemberType::TextMap),
        ("flags", MemberType::FlagMap),
        ("below", MemberType::Object(&[("flag", MemberType::Flag)])),
    ];

    const PATH: &str = "Invalid patch path";

    fn patched(before: Value, op: &str, path: &str, value: Option<&str>) -> Result<Value, String> {
        let operation = json!({"op": op, "path": path, "value": value});
        let operation: PatchOperation = serde_json::from_value(operation).unwrap();
        let mut members = before;
        let (op, path) = operation.op_and_path().map_err(|error| error.to_string())?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let object = members.as_object_mut().unwrap();
        patch_members(object, TYPES, (op, &path), &operation).map_err(|error| error.to_string())?;
        Ok(members)
    }

    #[test]
    #[rustfmt::skip]
    fn an_operation_sets_a_value_of_the_members_type() {
        let cases = [
            // before                     op         path             value            after
            (json!({}),                   "replace", "/text",         Some("2026"),    json!({"text": "2026"})),
            (json!({}),                   "add",     "/text",         Some("true"),    json!({"text": "true"})),
            (json!({"text": "a"}),        "remove",  "/text",         None,            json!({})),
            (json!({"text": "a"}),        "replace", "/text",         None,            json!({})),
            (json!({}),                   "replace", "/policy",       Some("{}"),      json!({"policy": "{}"})),
            (json!({"policy": "{}"}),     "replace", "/policy",       Some(""),        json!({})),
            (json!({}),                   "replace", "/flag",         Some("True"),    json!({"flag": true})),
            (json!({}),                   "replace", "/whole",        Some("10"),      json!({"whole": 10})),
            (json!({"whole": 1}),         "replace", "/whole",        None,            json!({})),
            (json!({"whole": 1}),         "replace", "/whole",        Some(""),        json!({})),
            (json!({}),                   "replace", "/share",        Some("33.300000"), json!({"share": 33.3})),
            (json!({}),                   "replace", "/word",         Some("A"),       json!({"word": "A"})),
            (json!({"handling": "A"}),    "replace", "/handling",     Some(""),        json!({})),
            (json!({}),                   "add",     "/scopes",       Some("a/b"),     json!({"scopes": ["a/b"]})),
            (json!({"scopes": ["a/b"]}),  "remove",  "/scopes",       Some("a/b"),     json!({})),
            (json!({}),                   "add",     "/media/a~1b",   None,            json!({"media": ["a/b"]})),
            (json!({}),                   "add",     "/media/a/b",    Some(""),        json!({"media": ["a/b"]})),
            (json!({"media": ["a/b"]}),   "replace", "/media/a~1b",   Some("c/d"),     json!({"media": ["c/d"]})),
            (json!({"media": ["a/b"]}),   "remove",  "/media/a~1b",   None,            json!({})),
            (json!({"kinds": ["A"]}),     "replace", "/kinds/A",      Some("B"),       json!({"kinds": ["B"]})),
            (json!({"kinds": ["A"]}),     "replace", "/kinds/0",      Some("B"),       json!({"kinds": ["B"]})),
            (json!({}),                   "add",     "/texts/a~1b",   Some("{}"),      json!({"texts": {"a/b": "{}"}})),
            (json!({"texts": {"a/b": ""}}), "remove", "/texts/a/b",   None,            json!({})),
            (json!({}),                   "add",     "/flags/a.b",    Some("false"),   json!({"flags": {"a.b": false}})),
            (json!({"below": "damaged"}), "replace", "/below/flag",   Some("true"),    json!({"below": {"flag": true}})),
            (json!({"below": {"flag": true}}), "remove", "/below",    None,            json!({})),
        ];
        for (before, op, path, value, after) in cases {
            assert_eq!(patched(before, op, path, value), Ok(after), "{op} {path} {value:?}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_value_of_another_type_is_refused_with_the_path_and_the_type() {
        let cases = [
            ("replace", "/flag",       Some("maybe"), "expected true or false"),
            ("replace", "/flag",       None,          "it needs a value"),
            ("remove",  "/flag",       None,          "it can be replaced, not removed"),
            ("replace", "/whole",      Some("lots"),  "expected a whole number from 0 to 10"),
            ("replace", "/whole",      Some("1.5"),   "expected a whole number from 0 to 10"),
            ("replace", "/whole",      Some("11"),    "expected a whole number from 0 to 10"),
            ("replace", "/share",      Some("NaN"),   "expected a number from 0 to 100"),
            ("replace", "/word",       Some("a"),     "expected one of A, B"),
            ("replace", "/word",       Some(""),      "expected one of A, B"),
            ("replace", "/media",      Some("a/b"),   PATH),
            ("remove",  "/media/a~1b", None,          "the list has no such item"),
            ("replace", "/kinds/0",    Some("A"),     "the list has no such item"),
            ("replace", "/texts",      Some("{}"),    PATH),
            ("replace", "/texts/a",    None,          "it needs a value"),
            ("replace", "/flags/a",    Some("{}"),    "expected true or false"),
            ("replace", "/below",      Some("hello"), PATH),
            ("replace", "/below/other", Some("a"),    ""),
            ("replace", "/other",      Some("a"),     ""),
            ("replace", "/policy",     Some("[]"),    NO_POLICY),
        ];
        for (op, path, value, why) in cases {
            let error = patched(json!({}), op, path, value).unwrap_err();
            let expected = match why {
                "" => format!("Invalid patch path  '{path}' specified for op '{op}'. Please choose supported operations"),
                NO_POLICY => why.to_owned(),
                PATH => {
                    assert!(error.starts_with(&format!("{PATH} {path}: ")), "{error}");
                    continue;
                }
                _ => format!("Invalid patch: {op} {path}: {why}"),
            };
            assert_eq!(error, expected);
        }
    }
}
