//! Which checks of a commit go in one script call.
//!
//! One script call carries all that one primary judges. In a Cluster a call's keys must lie in one
//! slot: there each hash tag has a call of its own, and all of them go in one pipeline. A hash tag
//! rather than a slot, because a call for several subjects would stand still for as long as their
//! slot is on its way to another primary.

use std::collections::HashMap;

use super::wire::Job;
use crate::limit::{Charges, Refund, Subject};

/// What one script call carries.
#[derive(Default)]
pub(super) struct Part<'j> {
    pub(super) checks: Vec<&'j Charges>,
    pub(super) refunds: Vec<&'j Refund>,
    pub(super) is_asking: bool,
}

/// The parts of all jobs, and for each check and each job's refunds, in order, which part has them;
/// on one primary that is always the first.
pub(super) fn split(jobs: &[Job], apart: bool) -> (Vec<Part<'_>>, Vec<usize>) {
    if !apart {
        let checks = jobs.iter().flat_map(|job| &job.work.checks).collect();
        let refunds = jobs.iter().flat_map(|job| &job.work.refunds).collect();
        return (vec![Part { checks, refunds, is_asking: false }], Vec::new());
    }
    let mut split = Split::default();
    for Job { work, .. } in jobs {
        for check in &work.checks {
            let subject = check.first().map(|charge| charge.subject);
            split.part(subject, work.is_asking).checks.push(check);
        }
        if let Some(first) = work.refunds.first() {
            let part = split.part(Some(first.charge.subject), work.is_asking);
            part.refunds.extend(&work.refunds);
        }
    }
    (split.parts, split.places)
}

/// See [`split`].
#[derive(Default)]
struct Split<'j> {
    parts: Vec<Part<'j>>,
    places: Vec<usize>,
    by_tag: HashMap<(Option<[u8; 22]>, bool), usize>,
}

impl<'j> Split<'j> {
    /// The part that the next check or refund belongs to.
    fn part(&mut self, subject: Option<Subject>, is_asking: bool) -> &mut Part<'j> {
        let tag = subject.map(|subject| subject.hash_tag());
        let place = *self.by_tag.entry((tag, is_asking)).or_insert_with(|| {
            self.parts.push(Part { is_asking, ..Part::default() });
            self.parts.len() - 1
        });
        self.places.push(place);
        &mut self.parts[place]
    }
}
