//! Which checks of a commit go in one script call.
//!
//! One script call carries all that one primary judges. In a Cluster a call's keys must lie in one
//! slot: there each hash tag has a call of its own, and all of them go in one pipeline. A hash tag
//! rather than a slot, because a call for several subjects would stand still for as long as their
//! slot is on its way to another primary.

use std::collections::HashMap;

use super::job::Job;
use crate::limit::{Charges, Refund, Subject};

/// What one script call carries.
#[derive(Default)]
pub(super) struct CallGroup<'j> {
    pub(super) checks: Vec<&'j Charges>,
    pub(super) refunds: Vec<&'j Refund>,
    pub(super) is_asking: bool,
}

/// The groups of all jobs, and for each check and each job's refunds, in order, which group has them;
/// on one primary that is always the first.
pub(super) fn group_calls(jobs: &[Job], by_hash_tag: bool) -> (Vec<CallGroup<'_>>, Vec<usize>) {
    if !by_hash_tag {
        let checks = jobs.iter().flat_map(|job| &job.work.checks).collect();
        let refunds = jobs.iter().flat_map(|job| &job.work.refunds).collect();
        return (vec![CallGroup { checks, refunds, is_asking: false }], Vec::new());
    }
    let mut grouping = Grouping::default();
    for Job { work, .. } in jobs {
        for check in &work.checks {
            let subject = check.first().map(|charge| charge.subject);
            grouping.group_for(subject, work.is_asking).checks.push(check);
        }
        if let Some(first) = work.refunds.first() {
            let group = grouping.group_for(Some(first.charge.subject), work.is_asking);
            group.refunds.extend(&work.refunds);
        }
    }
    (grouping.groups, grouping.positions)
}

/// See [`group_calls`].
#[derive(Default)]
struct Grouping<'j> {
    groups: Vec<CallGroup<'j>>,
    positions: Vec<usize>,
    by_tag: HashMap<(Option<[u8; 22]>, bool), usize>,
}

impl<'j> Grouping<'j> {
    /// The group that the next check or refund belongs to.
    fn group_for(&mut self, subject: Option<Subject>, is_asking: bool) -> &mut CallGroup<'j> {
        let tag = subject.map(|subject| subject.hash_tag());
        let position = *self.by_tag.entry((tag, is_asking)).or_insert_with(|| {
            self.groups.push(CallGroup { is_asking, ..CallGroup::default() });
            self.groups.len() - 1
        });
        self.positions.push(position);
        &mut self.groups[position]
    }
}
