//! Types of the members that are kept and returned without effect, as AWS' clients decode them.
//!
//! A request gives such a member as its type, or it is refused: a client could not decode the
//! response otherwise. Members that have an effect are typed by the structs of their resources.
//! Patches are in `member_patch`, the members of each resource beside it.

use serde_json::{Map, Value};

use super::error::ControlError;

/// The kept members of a resource, by their names.
pub(super) type Members = Map<String, Value>;

/// The names and types of the members that a resource keeps.
pub(super) type MemberTypes = &'static [(&'static str, MemberType)];

/// The type of a member. Both bounds of a number are inclusive.
#[derive(Clone, Copy)]
pub(super) enum MemberType {
    /// Any text.
    Text,
    /// The text of a JSON object.
    Json,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Whole(i64, i64),
    /// A number, with a fraction or without.
    Number(f64, f64),
    /// One of a few words.
    OneOf(&'static [&'static str]),
    /// One of a few words, or none.
    OptionalOneOf(&'static [&'static str]),
    /// A list of texts that a patch names in its value.
    TextList,
    /// A list of texts that a patch names in its path.
    TextSet,
    /// A list of some of a few words.
    WordList(&'static [&'static str]),
    /// An object of texts.
    TextMap,
    /// An object of `true` and `false`.
    FlagMap,
    /// An object with members of its own.
    Object(MemberTypes),
}

/// The reason in AWS' words why a text is no policy; no other member is [`MemberType::Json`].
pub(super) const NO_POLICY: &str =
    "Invalid policy document. Please check the policy syntax and ensure that Principals are valid.";

impl MemberType {
    /// The type in words, for errors.
    pub(super) fn description(self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Json => "the text of a JSON object".into(),
            Self::Flag => "true or false".into(),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Number(least, most) => format!("a number from {least} to {most}"),
            Self::OneOf(words) | Self::OptionalOneOf(words) => {
                format!("one of {}", words.join(", "))
            }
            Self::TextList | Self::TextSet => "a list of texts".into(),
            Self::WordList(words) => format!("a list of {}", words.join(", ")),
            Self::TextMap => "an object of texts".into(),
            Self::FlagMap => "an object of true and false".into(),
            Self::Object(_) => "an object".into(),
        }
    }

    /// True if a value is of this type; an object's members are checked by [`check_members`].
    fn matches(self, value: &Value) -> bool {
        let is_word =
            |words: &[&str], word: &Value| word.as_str().is_some_and(|it| words.contains(&it));
        let all =
            |is: &dyn Fn(&Value) -> bool| value.as_array().is_some_and(|it| it.iter().all(is));
        let each =
            |is: &dyn Fn(&Value) -> bool| value.as_object().is_some_and(|it| it.values().all(is));
        match self {
            Self::Text => value.is_string(),
            Self::Json => value.as_str().is_some_and(is_json_object),
            Self::Flag => value.is_boolean(),
            Self::Whole(least, most) => {
                value.as_i64().is_some_and(|number| (least..=most).contains(&number))
            }
            Self::Number(least, most) => {
                value.as_f64().is_some_and(|number| (least..=most).contains(&number))
            }
            Self::OneOf(words) | Self::OptionalOneOf(words) => is_word(words, value),
            Self::TextList | Self::TextSet => all(&Value::is_string),
            Self::WordList(words) => all(&|word| is_word(words, word)),
            Self::TextMap => each(&Value::is_string),
            Self::FlagMap => each(&Value::is_boolean),
            Self::Object(_) => value.is_object(),
        }
    }
}

/// True if a text is that of a JSON object.
pub(super) fn is_json_object(text: &str) -> bool {
    serde_json::from_str::<Members>(text).is_ok()
}

/// Checks the members that a request gives to a resource; `input` is AWS' name of the request.
/// Members that are null are removed, as if they were absent.
///
/// # Errors
/// If one of them is unknown or of another type. The error names it, and the type.
pub(super) fn check_members(
    members: &mut Members,
    types: MemberTypes,
    input: &str,
) -> Result<(), ControlError> {
    check_members_below(members, types, (input, ""))
}

/// Checks the members of the object at `at`, which is empty or ends with a dot.
fn check_members_below(
    members: &mut Members,
    types: MemberTypes,
    (input, at): (&str, &str),
) -> Result<(), ControlError> {
    members.retain(|_, value| !value.is_null());
    for (name, value) in members {
        let invalid = |why: String| {
            ControlError::BadRequest(format!("Invalid request body: {at}{name}: {why}"))
        };
        let Some((_, kind)) = types.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = types.iter().map(|(name, _)| *name).collect();
            return Err(invalid(format!("not known here; expected one of {}", known.join(", "))));
        };
        if !kind.matches(value) {
            let path = format!("{input}.{at}{name}");
            return Err(match (kind, &*value) {
                (
                    MemberType::OneOf(words) | MemberType::OptionalOneOf(words),
                    Value::String(word),
                ) => ControlError::not_one_of(word, &path, words),
                (MemberType::WordList(words), Value::Array(items)) => {
                    ControlError::not_all_of(items, &path, words)
                }
                (MemberType::Json, Value::String(_)) => ControlError::BadRequest(NO_POLICY.into()),
                _ => invalid(format!("expected {}", kind.description())),
            });
        }
        if let (MemberType::Object(types), Value::Object(members)) = (kind, value) {
            check_members_below(members, types, (input, &format!("{at}{name}.")))?;
        }
    }
    Ok(())
}

/// Removes the members that are not of their types, which earlier versions have kept: no client
/// could decode a response with them.
pub(super) fn remove_mistyped(members: &mut Members, types: MemberTypes) {
    for (name, kind) in types {
        if members.get(*name).is_some_and(|value| !kind.matches(value)) {
            members.remove(*name);
        }
    }
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
        ("words", MemberType::WordList(&["A", "B"])),
        ("texts", MemberType::TextList),
        ("flags", MemberType::FlagMap),
        ("below", MemberType::Object(&[("text", MemberType::Text)])),
    ];

    fn check(mut body: Value) -> Result<Value, String> {
        let members = body.as_object_mut().unwrap();
        check_members(members, TYPES, "putInput").map_err(|error| error.to_string())?;
        Ok(body)
    }

    #[test]
    fn a_member_of_another_type_is_refused_with_its_name_and_its_type() {
        let values =
            [json!("s"), json!(7), json!(7.5), json!(true), json!(["s"]), json!({"a": true})];
        for (name, kind) in TYPES {
            let accepted = values.iter().filter(|value| match check(json!({ *name: value })) {
                Ok(_) => true,
                Err(why) => {
                    let at = format!("Invalid request body: {name}: expected ");
                    let others = [
                        at + &kind.description(),
                        "Invalid request body: below.a: not known here; expected one of text".into(),
                        "1 validation error detected: Value 's' at 'putInput.word' failed to satisfy constraint: Member must satisfy enum value set: [A, B]".into(),
                        "1 validation error detected: Value '[s]' at 'putInput.words' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [A, B]]".into(),
                        NO_POLICY.into(),
                    ];
                    assert!(others.contains(&why), "{why}");
                    false
                }
            });
            let accepted = accepted.count();
            assert_eq!(
                accepted,
                match *name {
                    "policy" | "word" | "words" | "below" => 0,
                    "share" => 2,
                    _ => 1,
                },
                "{name}"
            );
        }
        let why = check(json!({"colour": "red"})).unwrap_err();
        assert!(why.starts_with("Invalid request body: colour: not known here"), "{why}");
        let why = check(json!({"whole": 11})).unwrap_err();
        assert!(why.ends_with("whole: expected a whole number from 0 to 10"), "{why}");
        assert!(check(json!({"policy": "{\"Version\":\"2012-10-17\"}"})).is_ok());
        assert_eq!(check(json!({"policy": "{"})).unwrap_err(), NO_POLICY);
        let why = check(json!({"words": ["A", "C"]})).unwrap_err();
        assert!(why.contains("Value '[A, C]' at 'putInput.words' failed"), "{why}");
    }

    #[test]
    fn null_is_an_absent_member() {
        let body = json!({"text": null, "below": {"text": null}, "word": "A"});
        assert_eq!(check(body), Ok(json!({"below": {}, "word": "A"})));
    }
}
