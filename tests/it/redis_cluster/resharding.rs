//! Slots that are moved under load: no charge is lost or made twice, and no check fails.
//! Needs programs besides Rust, so `make fast` skips it.

use super::*;
use crate::support::eventually;

/// The number of keys whose slots are moved.
const MOVED: usize = 40;

#[test]
fn moving_slots_under_load_loses_no_charge_and_makes_none_twice() {
    let cluster = RedisCluster::start(0, 1);
    let dir = tempfile::tempdir().unwrap();
    let record = |number: usize| dir.path().join(format!("{number}")).to_str().unwrap().to_owned();
    let nodes = [0, 1]
        .map(|number| node(&cluster, &["--record", &record(number), "--denial-memo", "false"]));
    let passed = std::thread::scope(|scope| {
        let moves = scope.spawn(|| {
            // To a server without slots, from there to a third one, and back home.
            for key in (0..MOVED).map(|number| key_of("few", &format!("k{number}"))) {
                let (slot, home) = (cluster.slot(&key), cluster.home(&key));
                cluster.move_slot(slot, home, 3);
                cluster.move_slot(slot, 3, (home + 1) % 3);
                cluster.move_slot(slot, (home + 1) % 3, home);
            }
        });
        let mut passed = HashMap::<usize, usize>::new();
        while !moves.is_finished() {
            for (key, times) in check_all_keys(&nodes.each_ref(), MOVED, 20) {
                *passed.entry(key).or_default() += times;
            }
        }
        moves.join().unwrap();
        passed
    });
    assert_eq!(passed.len(), MOVED);
    assert!(passed.values().all(|times| *times == 3), "{passed:?}");
    cluster.keys();
    for node in nodes {
        assert_eq!(node.metric("tollgate_store_errors_total", ""), 0.0, "{}", node.log());
        assert_eq!(node.stop(), Some(0));
    }
    let history: String = [0, 1].map(|number| fs::read_to_string(record(number)).unwrap()).concat();
    assert!(tollgate::engine::replay(&history).unwrap() >= MOVED * 20);
}

#[test]
fn while_a_slot_is_being_moved_each_key_is_checked_where_it_is() {
    let cluster = RedisCluster::start(0, 0);
    let node = node(&cluster, &["--denial-memo", "false"]);
    let key = key_of("few", "a");
    let (slot, home) = (cluster.slot(&key), cluster.home(&key));
    let away = (home + 1) % 3;
    assert!(node.passes("few", "a", 1));
    cluster.begin_moving(slot, home, away);
    assert!(node.passes("few", "a", 1), "it is still at home");
    cluster.move_keys(slot, home, away, 10);
    cluster.servers[away].command(&["SCRIPT", "FLUSH"]);
    assert!(node.passes("few", "a", 1), "ASK, and the script is not known there");
    assert!(!node.passes("few", "a", 1));
    cluster.end_moving(slot, away);
    assert!(!node.passes("few", "a", 1));
    assert_eq!(cluster.keys().get(&key), Some(&away));
    eventually("the node sends checks there at once", || {
        let before = cluster.servers[home].script_calls();
        assert!(!node.passes("few", "a", 1));
        cluster.servers[home].script_calls() == before
    });
}
