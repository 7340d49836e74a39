//! The slot of a key: one of a Redis Cluster's 16,384, by the same hash function as in Redis.

use crate::limit::Subject;

/// The number of slots in every Redis Cluster.
pub(in crate::store::redis) const SLOT_COUNT: usize = 16_384;

/// CRC16/XMODEM of each byte: polynomial 0x1021, no reflection.
const CRC16_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The slot of all keys with this hash tag.
pub(in crate::store::redis) fn of_tag(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0_u16, |crc, &byte| {
        crc << 8 ^ CRC16_TABLE[usize::from((crc >> 8) ^ u16::from(byte))]
    });
    crc % 16_384
}

/// The slot of a key. All keys of Tollgate have a hash tag.
pub(in crate::store::redis) fn of_key(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    of_tag(tag.map_or(key, |(tag, _)| tag).as_bytes())
}

/// The slot of a subject's keys.
pub(in crate::store::redis) fn of_subject(subject: Subject) -> u16 {
    of_tag(&subject.hash_tag())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        // The first is the specification's check value, the next two are from CLUSTER KEYSLOT.
        for (key, slot) in [
            ("123456789", 0x31c3),
            ("foo", 12_182),
            ("{user1000}.following", 3_443),
            ("tg:{registry}:paths", of_key("tg:{registry}")),
            ("", 0),
        ] {
            assert_eq!(of_key(key), slot, "{key}");
        }
        let subject = Subject::api_key("demo");
        assert_eq!(of_subject(subject), of_key(&subject.redis_key()));
        assert_eq!(of_subject(subject), of_subject(subject.method("GET /")));
    }
}
