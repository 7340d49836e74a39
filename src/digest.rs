//! SHA-256 digests of secrets, and their hexadecimal form.
//!
//! A secret itself is never kept here. Digests of counters and of the catalog are elsewhere.

use sha2::Sha256;

/// The SHA-256 of a secret: all that is kept of it.
pub type SecretDigest = [u8; 32];

/// The digest of a secret.
#[must_use]
pub fn digest_secret(secret: &str) -> SecretDigest {
    <Sha256 as sha2::Digest>::digest(secret).into()
}

/// Reads a digest from its 64 hexadecimal digits, in either case, and nothing beside them.
#[must_use]
pub fn decode_hex(hex: &str) -> Option<SecretDigest> {
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    let mut digest = SecretDigest::default();
    if pairs.len() != digest.len() {
        return None;
    }
    for (byte, &[high, low]) in digest.iter_mut().zip(pairs) {
        *byte = hex_value(high)? << 4 | hex_value(low)?;
    }
    Some(digest)
}

/// The value of one digit. `from_str_radix` would take a sign before a single digit.
fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// A digest as 64 lower-case hexadecimal digits.
#[must_use]
pub fn encode_hex(digest: &SecretDigest) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_from_the_digits_that_are_written_of_it() {
        let digest = digest_secret("demo-key");
        let hex = encode_hex(&digest);
        assert_eq!(decode_hex(&hex), Some(digest));
        assert_eq!(decode_hex(&hex.to_uppercase()), Some(digest));
        assert_eq!(
            decode_hex(&"09afAF".repeat(11)[..64]).map(|bytes| bytes[..3].to_vec()),
            Some(vec![0x09, 0xaf, 0xaf])
        );
    }

    #[test]
    #[rustfmt::skip]
    fn anything_but_64_hexadecimal_digits_is_no_digest() {
        let zeros = |count: usize| "0".repeat(count);
        let cases = [
            ("nothing",                   String::new()),
            ("one digit too few",         zeros(63)),
            ("one digit too many",        zeros(65)),
            ("two digits too few",        zeros(62)),
            ("a sign in the first place", format!("+{}", zeros(63))),
            ("a sign in a later pair",    format!("{}+f{}", zeros(32), zeros(30))),
            ("a minus",                   format!("-0{}", zeros(62))),
            ("a space before",            format!(" {}", zeros(63))),
            ("a space behind",            format!("{} ", zeros(63))),
            ("a prefix",                  format!("0x{}", zeros(62))),
            ("a separator",               format!("{}_{}", zeros(31), zeros(32))),
            ("a letter that is none",     format!("{}g", zeros(63))),
            ("64 bytes, not ASCII",       "é".repeat(32)),
            ("64 characters, not ASCII",  "０".repeat(64)),
        ];
        for (why, text) in cases {
            assert_eq!(decode_hex(&text), None, "{why}: {text:?}");
        }
    }
}
