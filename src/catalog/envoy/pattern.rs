//! Patterns of descriptor values: each `*` matches any number of characters, or none.

/// A pattern for `KEY_VALUE`: the literal parts between the stars, at least two.
#[derive(PartialEq, Eq)]
pub(super) struct ValuePattern(Vec<Box<str>>);

impl ValuePattern {
    /// The pattern of a key and its value, joined; `None` if there is no star.
    pub(super) fn new(joined: &str) -> Option<Self> {
        let parts: Vec<_> = joined.split('*').map(Box::from).collect();
        (parts.len() > 1).then_some(Self(parts))
    }

    /// Returns true if `KEY_VALUE` matches.
    pub(super) fn matches(&self, joined: &str) -> bool {
        let [first, middle @ .., last] = &self.0[..] else { return false };
        let Some(rest) = joined.strip_prefix(&**first) else { return false };
        let Some(mut rest) = rest.strip_suffix(&**last) else { return false };
        middle.iter().all(|part| match rest.find(&**part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_matches_any_number_of_characters() {
        #[rustfmt::skip]
        let cases = [
            // why                                  value      text         matches
            ("a prefix",                            "foo*",    "foobar",    true),
            ("nothing is a number of characters",   "foo*",    "foo",       true),
            ("another beginning",                   "foo*",    "fobar",     false),
            ("both ends",                           "a*c",     "abc",       true),
            ("ends that would overlap",             "ab*bc",   "abc",       false),
            ("parts in order",                      "a*b*c",   "axbyc",     true),
            ("parts out of order",                  "a*b*c*d", "axcybzd",   false),
            ("a star first",                        "*.html",  "x.html",    true),
            ("a star alone",                        "*",       "whatever",  true),
        ];
        for (why, value, text, matches) in cases {
            let pattern = ValuePattern::new(&format!("key_{value}")).unwrap();
            assert_eq!(pattern.matches(&format!("key_{text}")), matches, "{why}");
        }
        assert!(ValuePattern::new("key_plain").is_none());
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(pattern in "[ab*]{0,6}", text in "[ab]{0,7}") {
            /// Tries every length for every star.
            fn defined(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|taken| defined(rest, &text[taken..])),
                    Some((first, rest)) => text.split_first().is_some_and(|(a, text)| a == first && defined(rest, text)),
                }
            }
            if let Some(matcher) = ValuePattern::new(&format!("k_{pattern}")) {
                let matches = matcher.matches(&format!("k_{text}"));
                prop_assert_eq!(matches, defined(pattern.as_bytes(), text.as_bytes()));
            }
        }
    }
}
