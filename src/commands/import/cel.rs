//! The subset of CEL that entries of a descriptor can express: comparisons of a key with a text.
//!
//! `descriptors[0].KEY == 'TEXT'` and `descriptors[0]['KEY'] == 'TEXT'`, joined by `&&`. Nothing is
//! evaluated. Everything else is an error: a limit with half of its condition would count other
//! requests.

use std::fmt;
use std::iter::Peekable;
use std::vec::IntoIter;

/// Parses a condition: the keys that it compares, each with the required text.
///
/// # Errors
/// If the condition has anything else; the error quotes it.
pub(crate) fn parse_condition(source: &str) -> Result<Vec<(String, String)>, String> {
    let mut tokens = tokenize(source)?;
    let mut comparisons = vec![parse_comparison(&mut tokens)?];
    while let Some(token) = tokens.next() {
        match token {
            CelToken::Symbol("&&") => comparisons.push(parse_comparison(&mut tokens)?),
            other => return Err(unsupported(&other)),
        }
    }
    Ok(comparisons)
}

/// Parses a variable: the key that it names.
///
/// # Errors
/// If the variable is anything else; the error quotes it.
pub(crate) fn parse_variable(source: &str) -> Result<String, String> {
    let mut tokens = tokenize(source)?;
    let key = parse_key(&mut tokens)?;
    tokens.next().map_or(Ok(key), |token| Err(unsupported(&token)))
}

#[derive(Debug, PartialEq)]
enum CelToken {
    Name(String),
    Text(String),
    Symbol(&'static str),
    Other(char),
}

type CelTokens = Peekable<IntoIter<CelToken>>;

impl fmt::Display for CelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}`"),
            Self::Text(text) => write!(f, "the text {text:?}"),
            Self::Symbol(symbol) => write!(f, "`{symbol}`"),
            Self::Other(other) => write!(f, "`{}`", other.escape_debug()),
        }
    }
}

const SUPPORTED_SYNTAX: &str = "only descriptors[0].KEY == 'TEXT', joined by &&, can be imported";

fn unsupported(token: &CelToken) -> String {
    format!("{token} has no counterpart in a descriptor: {SUPPORTED_SYNTAX}")
}

fn next_token(tokens: &mut CelTokens) -> Result<CelToken, String> {
    tokens.next().ok_or_else(|| format!("it ends too early: {SUPPORTED_SYNTAX}"))
}

fn expect_symbol(tokens: &mut CelTokens, symbol: &'static str) -> Result<(), String> {
    let token = next_token(tokens)?;
    if token == CelToken::Symbol(symbol) { Ok(()) } else { Err(unsupported(&token)) }
}

/// `KEY == TEXT`, either way round.
fn parse_comparison(tokens: &mut CelTokens) -> Result<(String, String), String> {
    let text = |tokens: &mut CelTokens| match next_token(tokens)? {
        CelToken::Text(text) => Ok(text),
        other => Err(unsupported(&other)),
    };
    if let Some(CelToken::Text(_)) = tokens.peek() {
        let text = text(tokens)?;
        expect_symbol(tokens, "==")?;
        return Ok((parse_key(tokens)?, text));
    }
    let key = parse_key(tokens)?;
    expect_symbol(tokens, "==")?;
    Ok((key, text(tokens)?))
}

/// `descriptors[0].KEY` or `descriptors[0]['KEY']`.
fn parse_key(tokens: &mut CelTokens) -> Result<String, String> {
    match next_token(tokens)? {
        CelToken::Name(name) if name == "descriptors" => {}
        CelToken::Name(name) => {
            return Err(format!("`{name}` is not sent by Envoy: only descriptors[0] is"));
        }
        other => return Err(unsupported(&other)),
    }
    expect_symbol(tokens, "[")?;
    match next_token(tokens)? {
        CelToken::Name(index) if index == "0" => {}
        other => {
            return Err(format!(
                "descriptors[…] with {other}: a rule matches descriptors in every position, so only descriptors[0] can be imported"
            ));
        }
    }
    expect_symbol(tokens, "]")?;
    let key = match next_token(tokens)? {
        CelToken::Symbol(".") => match next_token(tokens)? {
            CelToken::Name(name) if !name.starts_with(|first: char| first.is_ascii_digit()) => name,
            other => return Err(unsupported(&other)),
        },
        CelToken::Symbol("[") => match next_token(tokens)? {
            CelToken::Text(text) => {
                expect_symbol(tokens, "]")?;
                text
            }
            other => return Err(unsupported(&other)),
        },
        other => return Err(unsupported(&other)),
    };
    if key.is_empty() { Err("an entry's key cannot be empty".into()) } else { Ok(key) }
}

fn tokenize(source: &str) -> Result<CelTokens, String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let symbol =
            ["==", "!=", "&&", "||", "[", "]", "."].into_iter().find(|one| rest.starts_with(one));
        let length = match first {
            ' ' | '\t' | '\n' | '\r' => 1,
            '\'' | '"' => {
                let (text, length) = parse_string(rest, first)?;
                found.push(CelToken::Text(text));
                length
            }
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => {
                let end = rest.find(|other: char| !(other.is_ascii_alphanumeric() || other == '_'));
                let name = &rest[..end.unwrap_or(rest.len())];
                found.push(CelToken::Name(name.to_owned()));
                name.len()
            }
            other => {
                found.push(symbol.map_or(CelToken::Other(other), CelToken::Symbol));
                symbol.map_or(other.len_utf8(), str::len)
            }
        };
        rest = &rest[length..];
    }
    Ok(found.into_iter().peekable())
}

/// Parses a text in quotes: the text, and its length in the source in bytes.
fn parse_string(source: &str, quote: char) -> Result<(String, usize), String> {
    if source[1..].starts_with([quote; 2].as_slice()) && source[2..].starts_with(quote) {
        return Err("text in triple quotes cannot be imported".into());
    }
    let mut text = String::new();
    let mut characters = source.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, escaped @ ('\\' | '\'' | '"'))) => text.push(escaped),
                _ => {
                    return Err(
                        "of the escapes in a text only \\\\, \\' and \\\" can be imported".into()
                    );
                }
            },
            _ if character == quote => return Ok((text, at + 1)),
            _ if character.is_control() => {
                return Err("a value cannot have control characters".into());
            }
            _ => text.push(character),
        }
    }
    Err("a text has no closing quote".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_comparison_is_parsed() {
        let get = || vec![("req.method".to_owned(), "GET".to_owned())];
        for same in [
            "descriptors[0]['req.method'] == 'GET'",
            r#"descriptors[0]["req.method"]=="GET""#,
            " 'GET' == descriptors [ 0 ] [ 'req.method' ] ",
        ] {
            assert_eq!(parse_condition(same), Ok(get()), "{same}");
        }
        let both = parse_condition(r"descriptors[0].a == 'it\'s' && descriptors[0]._b2 == ''");
        let both = both.unwrap();
        assert_eq!(both[0], ("a".to_owned(), "it's".to_owned()));
        assert_eq!(both[1], ("_b2".to_owned(), String::new()));
        assert_eq!(parse_variable("descriptors[0].user_id"), Ok("user_id".to_owned()));
    }

    #[test]
    fn an_error_quotes_the_part_that_cannot_be_imported() {
        for (source, word) in [
            ("descriptors[0].a != 'x'", "`!=`"),
            ("descriptors[0].a == 'x' || descriptors[0].b == 'y'", "`||`"),
            ("!(descriptors[0].a == 'x')", "`!`"),
            ("descriptors[0].a.startsWith('x')", "`.`"),
            ("descriptors[0].a == descriptors[0].b", "`descriptors`"),
            ("descriptors[0].a == 1", "`1`"),
            ("descriptors[1].a == 'x'", "descriptors[0]"),
            ("descriptors[00].a == 'x'", "descriptors[0]"),
            ("req_method == 'GET'", "`req_method`"),
            ("limit.name == 'x'", "`limit`"),
            ("descriptors[0].a == r'x'", "`r`"),
            ("descriptors[0].a == '''x'''", "triple quotes"),
            (r"descriptors[0].a == '\x41'", "escapes"),
            ("descriptors[0].a == 'x", "no closing quote"),
            ("descriptors[0].a == 'x\u{1}'", "control"),
            ("descriptors[0][''] == 'x'", "empty"),
            ("descriptors[0].1a == 'x'", "`1a`"),
            ("descriptors[0].a == 'x' descriptors[0].b == 'y'", "`descriptors`"),
            ("descriptors[0].é == 'x'", "`é`"),
            ("descriptors[0].a", "early"),
            ("descriptors[0].a ==", "early"),
            ("", "early"),
        ] {
            let why = parse_condition(source).unwrap_err();
            assert!(why.contains(word), "{source}: {why}");
        }
        for source in ["descriptors[0].a == 'x'", "'x'", "size(descriptors[0].a)", "100", "user"] {
            assert!(parse_variable(source).is_err(), "{source}");
        }
    }
}
