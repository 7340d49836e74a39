//! Enums of words, read from text and from nothing else.
//!
//! serde also reads a variant from an object with its name and null: `{"open": null}`.

/// Implements `Serialize` and `Deserialize` for an enum of words that derives both with
/// `#[serde(remote = "Self")]`.
macro_rules! read_from_text_only {
    ($word:ty) => {
        impl serde::Serialize for $word {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $word {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct TextVisitor;
                impl serde::de::Visitor<'_> for TextVisitor {
                    type Value = $word;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("text")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$word, E> {
                        <$word>::deserialize(serde::de::IntoDeserializer::into_deserializer(text))
                    }
                }
                deserializer.deserialize_str(TextVisitor)
            }
        }
    };
}
pub(crate) use read_from_text_only;

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    #[serde(rename_all = "lowercase", remote = "Self")]
    enum Colour {
        Red,
        Green,
    }
    read_from_text_only!(Colour);

    #[test]
    fn a_word_is_text_and_not_an_object_with_its_name() {
        for (word, text) in [(Colour::Red, r#""red""#), (Colour::Green, r#""green""#)] {
            assert_eq!(serde_json::to_string(&word).unwrap(), text);
            assert_eq!(serde_json::from_str::<Colour>(text).unwrap(), word);
        }
        for text in [r#"{"red":null}"#, "0", "null", r#"["red"]"#] {
            let read = |error: String| error.contains("expected text");
            let error = crate::syntax::from_json::<Colour>(&text.parse().unwrap());
            assert!(error.as_ref().is_err_and(|error| read(error.clone())), "{text}: {error:?}");
            assert!(crate::syntax::from_yaml::<Colour>(text, true).is_err(), "{text}");
        }
        let error = crate::syntax::from_json::<Colour>(&"blue".into());
        assert_eq!(error, Err("expected one of red, green".into()));
    }
}
