//! The handle of a reservation: its name and its terms as text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ReservedCheck;
use crate::limit::{ReservationName, ReservationTerms};

/// The longest handle in bytes.
pub const MAX_HANDLE_LEN: usize = 800;

/// The beginning of every handle.
const PREFIX: &str = "r1.";
/// The length of a reservation's name in bytes.
const NAME_LEN: usize = 16;

/// A handle that can be read; only the store knows if it is genuine.
#[derive(Clone, Debug, PartialEq)]
pub struct Handle {
    /// The reservation.
    pub name: ReservationName,
    /// The terms, as the store keeps them.
    pub terms: ReservationTerms,
    /// The check in the terms.
    pub check: ReservedCheck,
}

impl Handle {
    /// The handle of the reservation `name` with these terms; `None` if they are of another format.
    #[must_use]
    pub fn new(name: ReservationName, terms: ReservationTerms) -> Option<Self> {
        let check = ReservedCheck::decode(&terms)?;
        Some(Self { name, terms, check })
    }

    /// Reads a handle; `None` if it is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_HANDLE_LEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (name, terms) = bytes.split_first_chunk::<NAME_LEN>()?;
        Self::new(ReservationName::from_bytes(*name), ReservationTerms::new(terms)?)
    }

    /// The handle as text: printable ASCII.
    #[must_use]
    pub fn encode(&self) -> String {
        let terms = self.terms.as_bytes();
        let mut text = String::with_capacity(encoded_len(terms.len()));
        text.push_str(PREFIX);
        let bytes = [&self.name.to_bytes(), terms].concat();
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        text
    }
}

/// The length of a handle whose terms have `terms_len` bytes.
pub(super) const fn encoded_len(terms_len: usize) -> usize {
    PREFIX.len() + ((NAME_LEN + terms_len) * 4).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::algorithm::RowKind;
    use crate::inference::TokenUsage;
    use crate::limit::{LeasedUnits, RowId, Subject, Unit};
    use crate::reservation::{ReservedAmount, ReservedCharge, UnencodableCheck};
    use crate::time::Micros;

    fn subject(text: &str, method: Option<&str>) -> Subject {
        let subject = Subject::api_key(text);
        method.map_or(subject, |method| subject.method(method))
    }

    fn row(seed: u64) -> RowId {
        let mut head = [0; RowId::LEN];
        head[2..].copy_from_slice(&seed.to_le_bytes()[..5]);
        RowId::from_head(head).0.with_kind(RowKind::TOKEN_BUCKET)
    }

    prop_compose! {
        fn checks()(
            node in option::of(any::<[u8; 8]>()),
            ttl_ms in 1_000..=3_600_000_u64,
            texts in prop::array::uniform3(option::of("[a-z:*]{1,40}")),
            numbers in prop::array::uniform5(option::of(0..=1_u64 << 40)),
            units in vec((prop::sample::select(vec!["requests", "total_tokens", "burndown"]), 0..=1_u64 << 40), 1..4),
            subjects in vec(("[a-z]{1,3}", option::of("[a-z]{1,3}")), 1..4),
            charges in vec((any::<prop::sample::Index>(), any::<u64>(), any::<prop::sample::Index>(), option::weighted(0.2, 1..1_u64 << 53)), 0..12),
        ) -> ReservedCheck {
            let [label, key_id, model] = texts.map(|text| text.map(String::into_boxed_str));
            let [input, cached_input, cache_write, output, total] = numbers;
            let subjects: Vec<Subject> =
                subjects.iter().map(|(text, method)| subject(text, method.as_deref())).collect();
            let charge = |(owner, seed, unit, leased_at): &(prop::sample::Index, u64, prop::sample::Index, Option<u64>)| {
                ReservedCharge { subject: subjects[owner.index(subjects.len())], row: row(*seed), unit: unit.index(units.len()), leased_at: leased_at.map(Micros::new) }
            };
            ReservedCheck {
                node,
                ttl: Micros::new(ttl_ms * 1_000),
                label,
                key_id,
                model,
                estimate: TokenUsage { input, cached_input, cache_write, output, total },
                amounts: units.iter().map(|&(unit, amount)| ReservedAmount { unit: Unit::new(unit), amount }).collect(),
                charges: charges.iter().map(charge).collect(),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_handle_reads_back_as_it_was_written(check in checks(), secret: [u8; 8], name: [u8; 16]) {
            let terms = check.encode(secret).unwrap();
            prop_assert_eq!(terms.secret(), secret);
            let handle = Handle { name: ReservationName::from_bytes(name), terms, check };
            let text = handle.encode();
            prop_assert_eq!(text.len(), encoded_len(handle.terms.as_bytes().len()));
            prop_assert!(text.len() <= MAX_HANDLE_LEN && text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(Handle::parse(&text), Some(handle.clone()));
            for end in 0..text.len() {
                prop_assert_ne!(Handle::parse(&text[..end]), Some(handle.clone()));
            }
        }

        #[test]
        fn any_bytes_are_a_handle_or_none(bytes in vec(any::<u8>(), 0..300)) {
            let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
            if let Some(handle) = Handle::parse(&text) {
                prop_assert_eq!(handle.encode(), text);
            }
        }
    }

    /// Written before terms could name leases.
    const OF_AN_EARLIER_RELEASE: &str = "r1.AAECAwQFBgcICQoLDA0OD1NFQ1JFVCEhAQDg1AMDcHJvBWFsaWNlBWdwdC01CbAJgCACAAEDsCkBAAcHBwcHBwcHBwcHBwcHBwcCAAEBAgMEBQECBQQDAgE";

    #[test]
    fn a_handle_of_an_earlier_release_is_read_and_written_as_it_was() {
        let handle = Handle::parse(OF_AN_EARLIER_RELEASE).unwrap();
        assert_eq!(handle.encode(), OF_AN_EARLIER_RELEASE);
        let check = &handle.check;
        assert_eq!((check.label.as_deref(), check.key_id.as_deref()), (Some("pro"), Some("alice")));
        assert_eq!((check.charges.len(), check.amounts[1].amount), (2, 5_296));
        assert_eq!(check.leased_units(), []);
        assert_eq!(check.encode(*b"SECRET!!").unwrap(), handle.terms);
    }

    #[test]
    fn the_terms_say_which_charges_were_taken_from_leases_and_when() {
        let mut reserved = check(2, 2, 3);
        reserved.charges[1].leased_at = Some(Micros::from_secs(1_774_656_000));
        let terms = reserved.encode([7; 8]).unwrap();
        let read = ReservedCheck::decode(&terms).unwrap();
        let leased =
            LeasedUnits { units: 1_000_000_000, charged_at: Micros::from_secs(1_774_656_000) };
        assert_eq!(read.leased_units(), [None, Some(leased), None]);
        let all_leased = |subjects| {
            let mut reserved = check(subjects, 2, subjects);
            for charge in &mut reserved.charges {
                charge.leased_at = Some(Micros::MAX);
            }
            reserved.encode([7; 8]).map(|terms| encoded_len(terms.as_bytes().len()))
        };
        assert!(all_leased(8).unwrap() <= MAX_HANDLE_LEN);
    }

    fn check(subjects: usize, units: usize, charges: usize) -> ReservedCheck {
        let charge = |number: usize| ReservedCharge {
            subject: subject(&(number % subjects).to_string(), None),
            row: row(number as u64),
            unit: number % units,
            leased_at: None,
        };
        let amount = |number: usize| ReservedAmount {
            unit: Unit::new(&format!("a_unit_with_a_name_of_{number}")),
            amount: 1_000_000_000,
        };
        ReservedCheck {
            ttl: Micros::from_secs(60),
            label: Some("pro".into()),
            amounts: (0..units).map(amount).collect(),
            charges: (0..charges).map(charge).collect(),
            ..ReservedCheck::default()
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_check_that_does_not_fit_into_a_handle_is_refused_with_the_reason() {
        let cases = [
            // subjects units charges
            (8,         2,    8,  None),
            (9,         2,    9,  Some(UnencodableCheck::TooManySubjects)),
            (1,         33,   33, Some(UnencodableCheck::TooManyUnits)),
            (2,         2,    60, None),
            (8,         16,   60, Some(UnencodableCheck::TooLong)),
        ];
        for (subjects, units, charges, expected) in cases {
            let encoded = check(subjects, units, charges).encode([7; 8]);
            assert_eq!(encoded.err(), expected, "{subjects} {units} {charges}");
        }
        let long = ReservedCheck { model: Some("m".repeat(600).into()), ..check(1, 1, 1) };
        assert_eq!(long.encode([7; 8]).err(), Some(UnencodableCheck::TooLong));
    }
}
