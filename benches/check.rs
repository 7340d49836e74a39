//! The parts of a check that decide: resolving its limits, judging them, packing them for Redis,
//! and the memory store. What a request costs as a whole is measured by `make bench`.
//!
//! `cargo bench` runs all, `cargo bench -- judging` those whose name contains `judging`.

#![allow(clippy::unwrap_used, reason = "the inputs are constants of this file")]
#![allow(clippy::wildcard_imports, reason = "a module is a heading of the report")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use divan::{Bencher, black_box};
use tollgate::algorithm::{Calendar, Counting as _, Period, Quota, Throttle};
use tollgate::limit::{Charge, Charges, Limit, Subject, Unit};
use tollgate::time::{ManualClock, Micros};

fn main() {
    divan::main();
}

/// A point in time; windows and levels do not depend on it.
const NOW: Micros = Micros::from_secs(1_800_000_000);

/// A token bucket that does not fill up during a benchmark.
fn token_bucket() -> Arc<Limit> {
    let throttle = Throttle::new("1000/s".parse().unwrap(), 1_000_000_000).unwrap();
    Arc::new(Limit::new("p/throttle", Unit::requests(), throttle, false))
}

/// A daily quota that is not used up during a benchmark.
fn daily_quota() -> Arc<Limit> {
    let calendar = Calendar::new(Period::Day, "Europe/Berlin").unwrap();
    let quota = Quota { limit: 1_000_000_000_000, calendar: Arc::new(calendar) };
    Arc::new(Limit::new("p/quota", Unit::requests(), quota, false))
}

/// A limit that refuses: its bucket holds one unit and takes a day to drain.
fn full_bucket() -> Arc<Limit> {
    let throttle = Throttle::new("1/d".parse().unwrap(), 1).unwrap();
    Arc::new(Limit::new("p/full", Unit::requests(), throttle, false))
}

/// Charges of one request for one subject.
fn charges(subject: Subject, limits: &[Arc<Limit>]) -> Charges {
    limits.iter().map(|limit| Charge::new(subject, Arc::clone(limit), 1)).collect()
}

mod judging {
    use super::*;
    use tollgate::judge::{RowTable, judge, limit_status, offered_windows};

    /// Judges the same check again and again, on rows in a hash table.
    fn judge_repeatedly(bencher: Bencher<'_, '_>, limits: &[Arc<Limit>]) {
        let charges = charges(Subject::policy("p", "k"), limits);
        let (mut rows, offered) = (RowTable::default(), offered_windows(&charges, NOW));
        bencher.bench_local(move || judge(black_box(&charges), &offered, NOW, &mut rows));
    }

    #[divan::bench]
    fn token_bucket(bencher: Bencher<'_, '_>) {
        judge_repeatedly(bencher, &[super::token_bucket()]);
    }

    #[divan::bench]
    fn token_bucket_and_quota(bencher: Bencher<'_, '_>) {
        judge_repeatedly(bencher, &[super::token_bucket(), daily_quota()]);
    }

    #[divan::bench]
    fn refusal(bencher: Bencher<'_, '_>) {
        judge_repeatedly(bencher, &[super::token_bucket(), full_bucket()]);
    }

    /// The remaining units and the times of a response.
    #[divan::bench]
    fn status_of_a_limit(bencher: Bencher<'_, '_>) {
        let charges = charges(Subject::policy("p", "k"), &[super::token_bucket()]);
        let verdict = judge(&charges, &[None], NOW, &mut RowTable::default()).unwrap();
        let state = verdict.states[0];
        bencher.bench(|| limit_status(black_box(&charges[0]), state, true, NOW));
    }

    /// The previous, the current and the next day in a time zone.
    #[divan::bench]
    fn windows_of_a_quota(bencher: Bencher<'_, '_>) {
        let charges = charges(Subject::policy("p", "k"), &[daily_quota()]);
        bencher.bench(|| offered_windows(black_box(&charges), NOW));
    }
}

mod resolving {
    use super::*;
    use tollgate::catalog::{Catalog, CheckRequest, Cost, PolicyKey};

    /// A key's check on a path of the example catalog, which has four limits for it and more units.
    #[divan::bench]
    fn key_and_path(bencher: Bencher<'_, '_>) {
        let catalog = Catalog::example();
        let key = catalog.key_by_id("demo").unwrap();
        bencher.bench(|| {
            let request = CheckRequest {
                api: Some("inference"),
                stage: Some("prod"),
                method: Some("POST"),
                path: black_box(Some("/v1/chat/completions?stream=true")),
                policies: smallvec::SmallVec::new(),
                cost: Cost::Requests(1),
                after_the_fact: false,
                model: None,
                usage: None,
            };
            catalog.resolve(&request, Some(key), NOW).unwrap()
        });
    }

    #[divan::bench]
    fn policy(bencher: Bencher<'_, '_>) {
        let catalog = Catalog::example();
        bencher.bench(|| {
            let key = black_box("ip:203.0.113.7");
            let request = CheckRequest {
                api: None,
                stage: None,
                method: None,
                path: None,
                policies: smallvec::smallvec![PolicyKey { policy: "login", key, index: None }],
                cost: Cost::Requests(1),
                after_the_fact: false,
                model: None,
                usage: None,
            };
            catalog.resolve(&request, None, NOW).unwrap()
        });
    }

    /// A catalog from its text, which also happens with each change through the admin API.
    #[divan::bench]
    fn example_catalog() -> Catalog {
        Catalog::parse(black_box(tollgate::catalog::EXAMPLE), "example").unwrap()
    }
}

mod packing {
    use super::*;

    /// The parameters of a limit for the script, appended to the buffer of a call.
    fn pack(bencher: Bencher<'_, '_>, limit: &Limit) {
        let mut call = Vec::with_capacity(4096);
        bencher.bench_local(|| {
            call.clear();
            black_box(limit).algorithm().pack(&mut call, NOW);
        });
    }

    #[divan::bench]
    fn token_bucket(bencher: Bencher<'_, '_>) {
        pack(bencher, &super::token_bucket());
    }

    #[divan::bench]
    fn quota(bencher: Bencher<'_, '_>) {
        pack(bencher, &daily_quota());
    }

    /// A row from a counter's state.
    #[divan::bench]
    fn row(bencher: Bencher<'_, '_>) {
        let limit = super::token_bucket();
        let state = limit.algorithm().read((None, &[]), None, NOW).unwrap().state;
        bencher.bench(|| limit.algorithm().write(None, black_box(state), None, NOW));
    }

    #[divan::bench]
    fn redis_key(bencher: Bencher<'_, '_>) {
        bencher.bench(|| Subject::policy("login", black_box("ip:203.0.113.7")).redis_key());
    }
}

mod memory {
    use super::*;
    use tollgate::store::MemoryStore;

    /// The number of subjects; more than the caches of a core hold.
    const SUBJECTS: u64 = 1_000_000;

    fn store() -> MemoryStore {
        let clock = ManualClock::default();
        clock.set(NOW);
        MemoryStore::new(Arc::new(clock))
    }

    /// One subject, whose row is in the cache and whose shard is contended with several threads.
    #[divan::bench(threads = [1, 2])]
    fn hot_subject(bencher: Bencher<'_, '_>) {
        let (store, limit) = (store(), token_bucket());
        let charges = charges(Subject::policy("p", "k"), &[limit]);
        bencher.bench(|| store.judge(black_box(&charges)));
    }

    /// A million subjects in turn: most rows are not in the cache.
    #[divan::bench(threads = [1, 2])]
    fn million_subjects(bencher: Bencher<'_, '_>) {
        let (store, limits, next) = (store(), [token_bucket()], AtomicU64::new(0));
        let subject = |number: u64| Subject::policy("p", &number.to_string());
        for number in 0..SUBJECTS {
            let _charged = store.judge(&charges(subject(number), &limits));
        }
        bencher
            .with_inputs(|| {
                let number = next.fetch_add(7919, Ordering::Relaxed) % SUBJECTS;
                charges(subject(number), &limits)
            })
            .bench_refs(|charges| store.judge(charges));
    }
}
