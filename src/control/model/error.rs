//! Errors of the control plane, with the sentences of the admin API's responses.
//!
//! HTTP statuses and AWS' names of errors are the admin API's to choose.

use serde_json::Value;

use crate::store;

/// The most characters of a refused value that an error shows.
const MAX_SHOWN_CHARS: usize = 100;

/// The most faults of a request that an error shows.
const MAX_SHOWN_FAULTS: usize = 10;

/// The reason why a resource was not read or changed. A failed change has changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The request is invalid.
    #[error("{0}")]
    BadRequest(String),
    /// A member of the request is none of the words that it may be.
    #[error("{0}")]
    Validation(String),
    /// The resource does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The resource exists already, is in use, belongs to the catalog file, or is changed by too
    /// many requests at the same time.
    #[error("{0}")]
    Conflict(String),
    /// The registry cannot be reached.
    #[error("{0}")]
    Store(#[from] store::StoreError),
    /// The registry holds an entry that this version cannot read.
    #[error("an entry of the registry cannot be read: {0}")]
    Corrupt(String),
}

impl ControlError {
    /// The error that a resource belongs to the catalog file, so the API does not change it.
    #[must_use]
    pub fn owned_by_file(kind: &str, id: &str) -> Self {
        Self::Conflict(format!("the {kind} {id} is declared in the catalog file: change it there"))
    }

    /// The error that a resource does not exist, in AWS' words.
    #[must_use]
    pub fn not_found(kind: &str) -> Self {
        Self::NotFound(format!("Invalid {kind} identifier specified"))
    }

    /// The same error, or for an API that does not exist the one for what would be below it, as in
    /// AWS.
    #[must_use]
    pub fn below_api(self, kind: &str) -> Self {
        match self {
            Self::NotFound(_) => Self::not_found(kind),
            other => other,
        }
    }

    /// The error that a usage plan does not exist, in AWS' words.
    #[must_use]
    pub fn no_usage_plan() -> Self {
        Self::NotFound("Invalid Usage Plan ID specified".into())
    }

    /// The error that a plan names a stage that does not exist, in AWS' words.
    #[must_use]
    pub fn no_api_stage(api: &str, stage: &str, plan: &str) -> Self {
        let [api, stage] = [api, stage].map(shortened);
        Self::NotFound(format!(
            "Invalid API Stage {{api: {api}, stage: {stage}}} specified for usageplan {plan}"
        ))
    }

    /// The error that the member `at` of a request is none of these words, in AWS' words.
    #[must_use]
    pub fn not_one_of(value: &str, at: &str, words: &[&str]) -> Self {
        Self::unsatisfied(value, at, &word_constraint(words))
    }

    /// Nothing if there are no such values, each with the member that has it, or the error that they
    /// are none of these words, in AWS' words.
    pub(super) fn none_of(values: &[(&str, String)], words: &[&str]) -> Result<(), Self> {
        let constraint = word_constraint(words);
        match values {
            [] => Ok(()),
            [(value, at)] => Err(Self::unsatisfied(value, at, &constraint)),
            values => {
                let shown = values.iter().take(MAX_SHOWN_FAULTS);
                let shown = shown.map(|(value, at)| unsatisfied(value, at, &constraint));
                let shown = shown.collect::<Vec<_>>().join("; ");
                let count = values.len();
                Err(Self::Validation(format!("{count} validation errors detected: {shown}")))
            }
        }
    }

    /// The error that some items of the list `at` of a request are none of these words, in AWS'
    /// words.
    #[must_use]
    pub fn not_all_of(items: &[Value], at: &str, words: &[&str]) -> Self {
        let shown =
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let constraint = format!("Member must satisfy constraint: [{}]", word_constraint(words));
        Self::unsatisfied(&format!("[{shown}]"), at, &constraint)
    }

    /// The error that a text in the path of a request is no status code, in AWS' words.
    #[must_use]
    pub fn no_status_code(text: &str) -> Self {
        let constraint = r"Member must satisfy regular expression pattern: [1-5]\d\d";
        Self::unsatisfied(text, "statusCode", constraint)
    }

    fn unsatisfied(value: &str, at: &str, constraint: &str) -> Self {
        let why = unsatisfied(value, at, constraint);
        Self::Validation(format!("1 validation error detected: {why}"))
    }

    /// The error that another key has this id or value, in AWS' words.
    #[must_use]
    pub fn key_exists() -> Self {
        Self::Conflict("API Key already exists".into())
    }

    /// The error that a change was overtaken by other changes on every attempt, in AWS' words: its
    /// clients send the request again after these only.
    #[must_use]
    pub fn too_many_conflicts() -> Self {
        let why =
            "Unable to complete operation due to concurrent modification. Please try again later.";
        Self::Conflict(why.into())
    }
}

fn unsatisfied(value: &str, at: &str, constraint: &str) -> String {
    format!("Value '{}' at '{at}' failed to satisfy constraint: {constraint}", shortened(value))
}

/// A text of a request as an error shows it.
fn shortened(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

fn word_constraint(words: &[&str]) -> String {
    format!("Member must satisfy enum value set: [{}]", words.join(", "))
}
