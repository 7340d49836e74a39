//! Rows as nodes exchange them and the admin API has them: merged over nodes, in order, within a
//! bound of bytes.
//!
//! Sums of lower bounds are lower bounds. A row that a node had no room for counts as zero.

use std::cmp::Reverse;

use foldhash::{HashMap, HashMapExt as _};
use serde::{Deserialize, Serialize};

use crate::engine::key_names::KeyName;

/// The most bytes of rows that a node publishes.
pub(super) const MAX_PUBLISHED_BYTES: usize = 64 * 1024;

/// The counts of a key at a limit in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopCounts {
    /// Checks that the limit refused.
    pub refused: u64,
    /// Units that the limit was charged, in its unit; of a reservation its estimate.
    pub used: u64,
}

/// One key at one limit. Each count is exact or too low, never too high.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopRow {
    /// The limit's name in the catalog, such as `free/throttle`.
    pub limit: Box<str>,
    /// The limit's unit.
    pub unit: Box<str>,
    /// The id of the API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<Box<str>>,
    /// The key that the policy counts, at most 128 bytes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Box<str>>,
    /// The last minute: 50 to 60 s.
    pub minute: TopCounts,
    /// The last hour: 50 to 60 min.
    pub hour: TopCounts,
}

/// The count that orders rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopOrder {
    /// Checks refused in the last minute.
    RefusedInMinute,
    /// Checks refused in the last hour.
    RefusedInHour,
    /// Units used in the last minute.
    UsedInMinute,
    /// Units used in the last hour.
    UsedInHour,
}

impl TopRow {
    pub(super) fn new(
        limit: &str,
        unit: &str,
        name: &KeyName,
        [minute, hour]: [TopCounts; 2],
    ) -> Self {
        let (key_id, key) = match name {
            KeyName::KeyId(id) => (Some(Box::from(&**id)), None),
            KeyName::Policy(key) => (None, Some(Box::from(&**key))),
            KeyName::Nobody => (None, None),
        };
        Self { limit: limit.into(), unit: unit.into(), key_id, key, minute, hour }
    }

    fn count(&self, order: TopOrder) -> u64 {
        match order {
            TopOrder::RefusedInMinute => self.minute.refused,
            TopOrder::RefusedInHour => self.hour.refused,
            TopOrder::UsedInMinute => self.minute.used,
            TopOrder::UsedInHour => self.hour.used,
        }
    }
}

/// The rows of several nodes as one list, without order.
pub(super) fn merge_rows(nodes: impl IntoIterator<Item = Vec<TopRow>>) -> Vec<TopRow> {
    let mut merged: Vec<TopRow> = Vec::new();
    let mut places = HashMap::new();
    for row in nodes.into_iter().flatten() {
        let name = (row.limit.clone(), row.key_id.clone(), row.key.clone());
        let place = *places.entry(name).or_insert(merged.len());
        let Some(known) = merged.get_mut(place) else {
            merged.push(row);
            continue;
        };
        for (sum, more) in [(&mut known.minute, row.minute), (&mut known.hour, row.hour)] {
            sum.refused = sum.refused.saturating_add(more.refused);
            sum.used = sum.used.saturating_add(more.used);
        }
    }
    merged
}

/// The `count` rows with the largest counts; a row without any is left out.
#[must_use]
pub fn largest_rows(mut rows: Vec<TopRow>, order: TopOrder, count: usize) -> Vec<TopRow> {
    rows.retain(|row| row.count(order) > 0);
    rows.sort_by(|one, other| {
        let by_count = other.count(order).cmp(&one.count(order));
        let by_limit = || one.limit.cmp(&other.limit);
        let by_key = || (&one.key_id, &one.key).cmp(&(&other.key_id, &other.key));
        by_count.then_with(by_limit).then_with(by_key)
    });
    rows.truncate(count);
    rows
}

/// The rows that a node publishes, as JSON: those with refusals first, then the busiest keys of
/// each limit, as far as they fit.
pub(super) fn encode_rows(mut rows: Vec<TopRow>) -> Vec<u8> {
    // Units differ by limit, so the place within the limit decides, not the count.
    rows.sort_by(|one, other| {
        one.limit.cmp(&other.limit).then(other.minute.used.cmp(&one.minute.used))
    });
    let mut place = 0;
    let mut limit = None;
    let mut ranked: Vec<_> = rows
        .iter()
        .map(|row| {
            place = if limit == Some(&row.limit) { place + 1 } else { 0 };
            limit = Some(&row.limit);
            ((Reverse(row.minute.refused), Reverse(row.hour.refused), place), row)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut text = b"[".to_vec();
    for (_, row) in ranked {
        let Ok(row) = serde_json::to_vec(row) else { continue };
        if text.len() + row.len() + 2 > MAX_PUBLISHED_BYTES {
            break;
        }
        if text.len() > 1 {
            text.push(b',');
        }
        text.extend_from_slice(&row);
    }
    text.push(b']');
    text
}

/// The rows that another node has published; `None` if they are of a version that cannot be read.
pub(super) fn decode_rows(text: &[u8]) -> Option<Vec<TopRow>> {
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(limit: &str, key: &str, refused: u64, used: u64) -> TopRow {
        let counts = TopCounts { refused, used };
        TopRow::new(limit, "requests", &KeyName::KeyId(key.into()), [counts; 2])
    }

    #[test]
    fn rows_of_nodes_are_added_up_and_the_largest_come_first() {
        let one = vec![row("p/t", "a", 1, 5), row("p/t", "b", 2, 0)];
        let other = vec![row("p/t", "a", 4, 1), row("p/q", "a", 0, 9)];
        let merged = merge_rows([one, other]);
        let names = |order, count| {
            let rows = largest_rows(merged.clone(), order, count);
            rows.iter().map(|row| format!("{} {}", row.limit, row.hour.used)).collect::<Vec<_>>()
        };
        assert_eq!(names(TopOrder::RefusedInMinute, 9), ["p/t 6", "p/t 0"]);
        assert_eq!(names(TopOrder::UsedInHour, 1), ["p/q 9"]);
    }

    #[test]
    fn published_rows_are_bounded_and_those_with_refusals_come_first() {
        let busy = (0..2_000).map(|number| row("p/t", &format!("key-{number}"), 0, number));
        let rows = busy.chain([row("q/t", "refused", 1, 0), row("q/t", "busiest", 0, 1)]).collect();
        let text = encode_rows(rows);
        assert!(text.len() <= MAX_PUBLISHED_BYTES, "{}", text.len());
        let published = decode_rows(&text).unwrap();
        let first: Vec<_> = published[..3].iter().filter_map(|row| row.key_id.as_deref()).collect();
        assert_eq!(first[0], "refused");
        assert!(first.contains(&"busiest") || first.contains(&"key-1999"), "{first:?}");
        assert_eq!(decode_rows(&encode_rows(Vec::new())), Some(Vec::new()));
    }
}
