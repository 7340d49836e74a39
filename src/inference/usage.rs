//! The tokens that a model used, read from its provider's usage object as it came.
//!
//! OpenAI (chat completions and responses), Anthropic, Bedrock's Converse and Gemini name the same
//! numbers differently, and disagree about the cached part of the input: to OpenAI and Gemini it
//! is part of the input's number, to Anthropic and Bedrock it stands beside it. Proxies send the
//! members of two providers at once; of two numbers for the same the larger one counts.
//!
//! Prices, limits and checks are not known here.

use serde::{Deserialize, Deserializer, Serialize};

use crate::object::Object;
use crate::syntax::WholeNumber;

/// The largest number in the usage object of a check or a reservation.
pub const MAX_ESTIMATE: u64 = 1_000_000_000;
/// The largest number in the usage object of a settlement: what has been used is never refused.
pub const MAX_ACTUAL: u64 = 1 << 40;

/// The tokens of a request by kind, each below 2^43. `None` is unknown, which is not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsage {
    /// Tokens of the input, with those read from a cache and written to it.
    pub input: Option<u64>,
    /// The part of the input that was read from a cache.
    pub cached_input: Option<u64>,
    /// The part of the input that was written to a cache.
    pub cache_write: Option<u64>,
    /// Tokens of the output, with those of reasoning.
    pub output: Option<u64>,
    /// Input and output together: their sum, or the number given if one of them is unknown.
    pub total: Option<u64>,
}

impl TokenUsage {
    /// True if nothing is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// The same with 0 for the input or the output, if only the other one is known. A total alone
    /// stays alone: its parts are unknown.
    #[must_use]
    pub fn known_part(self) -> Self {
        if self.input.is_none() && self.output.is_none() {
            return self;
        }
        let (input, output) = (self.input.unwrap_or(0), self.output.unwrap_or(0));
        let total = self.total.unwrap_or(input + output);
        Self { input: Some(input), output: Some(output), total: Some(total), ..self }
    }
}

/// A usage object whose numbers are at most `MAX`. Members that no provider is known to send are
/// ignored, and null is absent. A member that is there twice is an error.
pub struct ProviderUsage<const MAX: u64>(pub TokenUsage);

impl<'de, const MAX: u64> Deserialize<'de> for ProviderUsage<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(raw) = Object::<RawUsage<MAX>>::deserialize(deserializer)?;
        Ok(Self(raw.normalize()))
    }
}

/// A number of tokens; null is absent.
type Count<const MAX: u64> = Option<WholeNumber<MAX>>;

/// The members of all providers that are read.
#[derive(Deserialize)]
struct RawUsage<const MAX: u64> {
    // OpenAI's chat completions.
    prompt_tokens: Count<MAX>,
    completion_tokens: Count<MAX>,
    prompt_tokens_details: Option<Object<RawDetails<MAX>>>,
    // OpenAI's responses, and Anthropic, which has no details.
    input_tokens: Count<MAX>,
    output_tokens: Count<MAX>,
    input_tokens_details: Option<Object<RawDetails<MAX>>>,
    total_tokens: Count<MAX>,
    // Anthropic.
    cache_read_input_tokens: Count<MAX>,
    cache_creation_input_tokens: Count<MAX>,
    // Bedrock's Converse.
    #[serde(rename = "inputTokens")]
    converse_input: Count<MAX>,
    #[serde(rename = "outputTokens")]
    converse_output: Count<MAX>,
    #[serde(rename = "totalTokens")]
    converse_total: Count<MAX>,
    #[serde(rename = "cacheReadInputTokens")]
    converse_cache_read: Count<MAX>,
    #[serde(rename = "cacheWriteInputTokens")]
    converse_cache_write: Count<MAX>,
    // Gemini, which leaves out what is 0.
    #[serde(rename = "promptTokenCount")]
    gemini_prompt: Count<MAX>,
    #[serde(rename = "toolUsePromptTokenCount")]
    gemini_tool_prompt: Count<MAX>,
    #[serde(rename = "cachedContentTokenCount")]
    gemini_cached: Count<MAX>,
    #[serde(rename = "candidatesTokenCount")]
    gemini_candidates: Count<MAX>,
    #[serde(rename = "thoughtsTokenCount")]
    gemini_thoughts: Count<MAX>,
    #[serde(rename = "totalTokenCount")]
    gemini_total: Count<MAX>,
}

#[derive(Deserialize)]
struct RawDetails<const MAX: u64> {
    cached_tokens: Count<MAX>,
    cache_write_tokens: Count<MAX>,
}

/// The largest of the numbers that are there.
fn largest<const MAX: u64>(numbers: &[Count<MAX>]) -> Option<u64> {
    numbers.iter().flatten().map(|number| number.0).max()
}

/// The sum of the numbers that are there; `None` if there is none.
fn sum<const MAX: u64>(numbers: &[Count<MAX>]) -> Option<u64> {
    let sum = numbers.iter().flatten().map(|number| number.0).sum();
    numbers.iter().any(Option::is_some).then_some(sum)
}

impl<const MAX: u64> RawUsage<MAX> {
    /// The tokens by kind. Cached tokens that exceed an input which should contain them are input
    /// at the full price.
    fn normalize(self) -> TokenUsage {
        let gemini_input = sum(&[self.gemini_prompt, self.gemini_tool_prompt]);
        let gemini_output = sum(&[self.gemini_candidates, self.gemini_thoughts]);
        let contains_cached = self.prompt_tokens.is_some()
            || self.input_tokens_details.is_some()
            || gemini_input.or(gemini_output).is_some()
            || self.gemini_cached.is_some();
        let details = [self.prompt_tokens_details, self.input_tokens_details]
            .map(|details| details.map(|Object(details)| details));
        let [chat, responses] = &details;
        let in_details = |read: fn(&RawDetails<MAX>) -> Count<MAX>| {
            [chat.as_ref().and_then(read), responses.as_ref().and_then(read)]
        };
        let [chat_read, responses_read] = in_details(|details| details.cached_tokens);
        let [chat_write, responses_write] = in_details(|details| details.cache_write_tokens);

        let named = largest(&[self.prompt_tokens, self.input_tokens, self.converse_input]);
        let named = named.max(gemini_input);
        let read = [
            chat_read,
            responses_read,
            self.cache_read_input_tokens,
            self.converse_cache_read,
            self.gemini_cached,
        ];
        let written = [
            chat_write,
            responses_write,
            self.cache_creation_input_tokens,
            self.converse_cache_write,
        ];
        let (read, written) = (largest(&read), largest(&written));
        let of_cache = read.unwrap_or(0) + written.unwrap_or(0);
        let input =
            named.map(|named| if contains_cached { named.max(of_cache) } else { named + of_cache });
        let cached_input = if contains_cached { read.min(named) } else { read };
        let output = largest(&[self.completion_tokens, self.output_tokens, self.converse_output]);
        let output = output.max(gemini_output);
        let total = largest(&[self.total_tokens, self.converse_total, self.gemini_total]);
        TokenUsage {
            input,
            cached_input: input.and(cached_input),
            cache_write: input.and(written),
            output,
            total: input.zip(output).map(|(input, output)| input + output).or(total),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn parse(text: &str) -> Result<TokenUsage, String> {
        let read = serde_json::from_str::<ProviderUsage<MAX_ACTUAL>>(text);
        read.map(|ProviderUsage(usage)| usage).map_err(|error| error.to_string())
    }

    /// Input, its cached part, its written part, output, total; -1 is unknown.
    fn usage(numbers: [i64; 5]) -> TokenUsage {
        let [input, cached_input, cache_write, output, total] =
            numbers.map(|number| u64::try_from(number).ok());
        TokenUsage { input, cached_input, cache_write, output, total }
    }

    #[test]
    #[rustfmt::skip]
    fn the_object_of_every_provider_is_read_as_it_comes() {
        let cases = [
            // OpenAI, chat completions
            (r#"{"prompt_tokens":1187,"completion_tokens":431,"total_tokens":1618,"prompt_tokens_details":{"cached_tokens":1024,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":320,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#,
             [1187, 1024, -1, 431, 1618]),
            (r#"{"prompt_tokens":8,"total_tokens":8}"#, [8, -1, -1, -1, 8]),
            (r#"{"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":null}"#, [5, -1, -1, 7, 12]),
            // OpenAI, responses
            (r#"{"input_tokens":125,"input_tokens_details":{"cached_tokens":98,"cache_write_tokens":20},"output_tokens":48,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":173}"#,
             [125, 98, 20, 48, 173]),
            // Anthropic: the cached part stands beside the input
            (r#"{"input_tokens":2095,"cache_creation_input_tokens":248,"cache_read_input_tokens":1800,"cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100},"output_tokens":503,"server_tool_use":{"web_search_requests":1},"service_tier":"standard","inference_geo":"us"}"#,
             [4143, 1800, 248, 503, 4646]),
            (r#"{"input_tokens":10,"cache_creation_input_tokens":null,"cache_read_input_tokens":null,"output_tokens":1}"#, [10, -1, -1, 1, 11]),
            (r#"{"output_tokens":15}"#, [-1, -1, -1, 15, -1]),
            // Bedrock, Converse
            (r#"{"inputTokens":30,"outputTokens":628,"totalTokens":1158,"cacheReadInputTokens":400,"cacheWriteInputTokens":100,"cacheDetails":[{"inputTokens":100,"ttl":"5m"}]}"#,
             [530, 400, 100, 628, 1158]),
            // Gemini: thoughts are output, prompts of tools are input, what is 0 is left out
            (r#"{"promptTokenCount":1200,"cachedContentTokenCount":1000,"candidatesTokenCount":80,"thoughtsTokenCount":300,"toolUsePromptTokenCount":50,"totalTokenCount":1630,"promptTokensDetails":[{"modality":"TEXT","tokenCount":1200}],"trafficType":"ON_DEMAND"}"#,
             [1250, 1000, -1, 380, 1630]),
            (r#"{"promptTokenCount":12,"totalTokenCount":12}"#, [12, -1, -1, -1, 12]),
            // LiteLLM for Anthropic: both styles, and the input contains what was cached
            (r#"{"prompt_tokens":4143,"completion_tokens":503,"total_tokens":4646,"prompt_tokens_details":{"cached_tokens":1800},"cache_creation_input_tokens":248,"cache_read_input_tokens":1800}"#,
             [4143, 1800, 248, 503, 4646]),
            // A proxy that fills the names of two APIs, one of them with 0
            (r#"{"prompt_tokens":0,"completion_tokens":0,"input_tokens":70,"output_tokens":9,"input_tokens_details":null}"#, [70, -1, -1, 9, 79]),
            // Cached above an input that should contain it
            (r#"{"prompt_tokens":20,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":80}}"#, [80, 20, -1, 1, 81]),
            (r#"{"prompt_tokens":20,"completion_tokens":1,"cache_read_input_tokens":15,"cache_creation_input_tokens":10}"#, [25, 15, 10, 1, 26]),
            // Little is known, or nothing
            (r#"{"total_tokens":5}"#, [-1, -1, -1, -1, 5]),
            (r#"{"cache_read_input_tokens":7}"#, [-1, -1, -1, -1, -1]),
            (r#"{"prompt_tokens":null,"total_tokens":null,"cost":0.25,"":[1,"x"]}"#, [-1, -1, -1, -1, -1]),
            ("{}", [-1, -1, -1, -1, -1]),
        ];
        for (text, numbers) in cases {
            assert_eq!(parse(text), Ok(usage(numbers)), "{text}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn an_invalid_object_is_refused_with_the_path_of_its_member() {
        let cases = [
            // body                                                     path, message
            (r#"{"prompt_tokens":-1}"#,                                 "prompt_tokens", "must not be negative"),
            (r#"{"output_tokens":1.5}"#,                                "output_tokens", "must be a whole number"),
            (r#"{"output_tokens":1e3}"#,                                "output_tokens", "must be a whole number"),
            (r#"{"inputTokens":"12"}"#,                                 "inputTokens", "invalid type: string"),
            (r#"{"candidatesTokenCount":true}"#,                        "candidatesTokenCount", "invalid type: boolean"),
            (r#"{"total_tokens":1099511627777}"#,                       "total_tokens", "must be at most 1099511627776"),
            (r#"{"prompt_tokens_details":{"cached_tokens":{}}}"#,       "prompt_tokens_details.cached_tokens", "invalid type: map"),
            (r#"{"prompt_tokens_details":[1]}"#,                        "prompt_tokens_details", "invalid type: sequence"),
            (r#"{"prompt_tokens":1,"prompt_tokens":1}"#,                ".", "duplicate field `prompt_tokens`"),
            (r#"{"prompt_tokens":null,"prompt_tokens":1}"#,             ".", "duplicate field `prompt_tokens`"),
            (r#"{"input_tokens_details":{"cached_tokens":1,"cached_tokens":0}}"#, "input_tokens_details", "duplicate field `cached_tokens`"),
            ("[1,2]",                                                   ".", "invalid type: sequence"),
            ("7",                                                       ".", "invalid type: integer"),
        ];
        for (text, path, message) in cases {
            let mut json = serde_json::Deserializer::from_str(text);
            let read = serde_path_to_error::deserialize::<_, ProviderUsage<MAX_ACTUAL>>(&mut json);
            let error = read.err().unwrap_or_else(|| panic!("{text} is valid"));
            assert_eq!(error.path().to_string(), path, "{text}");
            assert!(error.inner().to_string().starts_with(message), "{text}: {error}");
        }
    }

    #[test]
    fn an_estimate_has_smaller_numbers_than_an_actual() {
        let text = format!("{{\"output_tokens\":{}}}", MAX_ESTIMATE + 1);
        assert!(serde_json::from_str::<ProviderUsage<MAX_ESTIMATE>>(&text).is_err());
        assert_eq!(parse(&text).unwrap().output, Some(MAX_ESTIMATE + 1));
    }

    #[test]
    fn what_is_unknown_counts_as_nothing_only_beside_what_is_known() {
        assert_eq!(usage([5, 3, -1, -1, -1]).known_part(), usage([5, 3, -1, 0, 5]));
        assert_eq!(usage([-1, -1, -1, 7, -1]).known_part(), usage([0, -1, -1, 7, 7]));
        for alone in [usage([-1, -1, -1, -1, 9]), usage([-1; 5])] {
            assert_eq!(alone.known_part(), alone);
        }
    }

    /// The same response in the members of every provider: plain, read, written and output tokens.
    fn in_every_style([plain, read, written, output]: [u64; 4]) -> [Value; 5] {
        let input = plain + read + written;
        [
            json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
                "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written}}),
            json!({"input_tokens": input, "output_tokens": output,
                "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written}}),
            json!({"input_tokens": plain, "cache_read_input_tokens": read,
                "cache_creation_input_tokens": written, "output_tokens": output}),
            json!({"inputTokens": plain, "cacheReadInputTokens": read, "cacheWriteInputTokens": written,
                "outputTokens": output, "totalTokens": input + output}),
            json!({"prompt_tokens": input, "completion_tokens": output, "cache_read_input_tokens": read,
                "cache_creation_input_tokens": written, "prompt_tokens_details": {"cached_tokens": read}}),
        ]
    }

    proptest! {
        #[test]
        fn one_answer_is_the_same_usage_in_the_members_of_every_provider(
            kinds in prop::array::uniform4(0..=MAX_ACTUAL / 4),
        ) {
            let [plain, read, written, output] = kinds;
            let input = plain + read + written;
            let expected = TokenUsage {
                input: Some(input),
                cached_input: Some(read),
                cache_write: Some(written),
                output: Some(output),
                total: Some(input + output),
            };
            for object in in_every_style(kinds) {
                prop_assert_eq!(parse(&object.to_string()), Ok(expected), "{}", object);
            }
        }

        #[test]
        fn the_cached_parts_of_any_object_fit_into_its_input(
            numbers in prop::collection::hash_map(
                prop::sample::select(vec![
                    "prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount",
                    "cachedContentTokenCount", "cache_read_input_tokens", "cacheReadInputTokens",
                    "cache_creation_input_tokens", "cacheWriteInputTokens", "output_tokens",
                    "completion_tokens", "thoughtsTokenCount", "total_tokens", "anything",
                ]),
                0..100_u64,
                0..14,
            ),
        ) {
            let usage = parse(&json!(numbers).to_string()).unwrap();
            let of_cache = usage.cached_input.unwrap_or(0) + usage.cache_write.unwrap_or(0);
            prop_assert!(of_cache <= usage.input.unwrap_or(0), "{:?}", usage);
            let named = ["prompt_tokens", "input_tokens", "inputTokens"].map(|name| numbers.get(name));
            prop_assert!(usage.input >= named.into_iter().flatten().max().copied());
            if let (Some(input), Some(output)) = (usage.input, usage.output) {
                prop_assert_eq!(usage.total, Some(input + output));
            }
        }
    }
}
