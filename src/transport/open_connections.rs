//! The open connections of a worker: when each last moved a byte or had a request, the time limits
//! that follow from it, and which one is the idlest.
//!
//! Time is counted in ticks of the worker's own loop. While the worker is paused or overloaded it
//! stands still, and no client is blamed for that. Nothing here reads or writes.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::monitored_body::WaitingBodies;
use crate::telemetry::ConnectionEnd;

/// The length of a tick.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// The ticks between two looks at all connections.
const SWEEP_TICKS: u32 = 10;
/// The ticks within which the preface of HTTP/2 and the first frame's head have to arrive: 10 s.
const HANDSHAKE_TICKS: u32 = 100;
/// The ticks after which a connection is closed that has moved no byte, or has not written one
/// buffer: 30 s.
const STALL_TICKS: u32 = 300;
/// The ticks for which a connection counts as used after its start and after a request: 1 s.
const FRESH_TICKS: u32 = 10;
/// The connection preface of HTTP/2 and the head of a frame, in bytes.
const HANDSHAKE_BYTES: u32 = 24 + 9;

/// The activity of one connection, recorded by its own worker only.
pub(super) struct Activity {
    /// A later connection of the listener has a larger serial.
    serial: u64,
    /// The worker's clock, in ticks. All times below are its.
    clock: Arc<AtomicU32>,
    opened: u32,
    /// The last time that the connection received or sent bytes.
    moved: AtomicU32,
    /// The last time that a request began or had its response.
    requested: AtomicU32,
    has_responded: AtomicBool,
    /// One more than the time since which bytes wait to be sent; 0 if none do.
    writing_since: AtomicU32,
    /// Bytes received, counted up to [`HANDSHAKE_BYTES`].
    received: AtomicU32,
    /// Requests without a response.
    pending: AtomicU32,
    /// Bodies of responses that wait for the client.
    waiting: WaitingBodies,
}

impl Activity {
    fn now(&self) -> u32 {
        self.clock.load(Relaxed)
    }

    /// Records that bytes were received.
    pub(super) fn record_read(&self, bytes: usize) {
        self.moved.store(self.now(), Relaxed);
        let received = self.received.load(Relaxed);
        if received < HANDSHAKE_BYTES {
            let bytes = u32::try_from(bytes).unwrap_or(HANDSHAKE_BYTES);
            self.received.store(received.saturating_add(bytes), Relaxed);
        }
    }

    /// Records that bytes were sent.
    pub(super) fn record_write(&self) {
        self.moved.store(self.now(), Relaxed);
    }

    /// Records that bytes wait to be sent, or that none do any more.
    pub(super) fn record_blocked(&self, is_blocked: bool) {
        let since = self.writing_since.load(Relaxed);
        if is_blocked != (since > 0) {
            let since = if is_blocked { self.now() + 1 } else { 0 };
            self.writing_since.store(since, Relaxed);
        }
    }

    /// Records a request, which is pending until the guard is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> PendingRequest {
        self.pending.fetch_add(1, Relaxed);
        self.requested.store(self.now(), Relaxed);
        PendingRequest(Arc::clone(self))
    }

    /// Records that the body of a response waits for the client. Returns the interval since which.
    pub(super) fn begin_body_wait(&self) -> u32 {
        self.waiting.begin(self.now())
    }

    /// Records that the client has taken what the body had.
    pub(super) fn end_body_wait(&self, since: u32) {
        self.waiting.end(since);
    }

    fn idleness(&self) -> Idleness {
        let requested = self.requested.load(Relaxed);
        let idle_ticks = self.now() - requested;
        let class = match (idle_ticks < FRESH_TICKS, self.has_responded.load(Relaxed)) {
            (false, false) => IdleClass::Silent,
            (false, true) => IdleClass::Idle,
            (true, false) => IdleClass::New,
            (true, true) => IdleClass::Busy,
        };
        Idleness { class, idle_ticks: Reverse(idle_ticks), serial: self.serial, requested }
    }

    /// The time limit that the connection has exceeded.
    fn exceeded_limit(&self, needs_preface: bool) -> Option<ConnectionEnd> {
        let now = self.now();
        let writing_since = self.writing_since.load(Relaxed);
        let is_established = !needs_preface || self.received.load(Relaxed) >= HANDSHAKE_BYTES;
        let is_pending = self.pending.load(Relaxed) > 0;
        match () {
            () if !is_established && now - self.opened >= HANDSHAKE_TICKS => {
                Some(ConnectionEnd::Handshake)
            }
            () if writing_since > 0 && now + 1 - writing_since >= STALL_TICKS => {
                Some(ConnectionEnd::Unread)
            }
            () if self.waiting.has_overdue(now) => Some(ConnectionEnd::Unread),
            () if !is_pending && now - self.moved.load(Relaxed) >= STALL_TICKS => {
                Some(ConnectionEnd::Stalled)
            }
            () => None,
        }
    }
}

/// A request without a response. It has its response when this is dropped.
pub(super) struct PendingRequest(Arc<Activity>);

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.pending.fetch_sub(1, Relaxed);
        activity.requested.store(activity.now(), Relaxed);
        activity.has_responded.store(true, Relaxed);
    }
}

/// The kinds of connections, in the order in which they are closed at the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum IdleClass {
    /// It has been open for a second and never had a response.
    Silent,
    /// It had a response, and no request for a second.
    Idle,
    /// It has been open for less than a second.
    New,
    /// It had a request within the last second.
    Busy,
}

/// The idleness of a connection. The smallest is closed first: of a class that without a request
/// for the longest, and of several the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Idleness {
    class: IdleClass,
    idle_ticks: Reverse<u32>,
    serial: u64,
    /// The time of the last request: the connection has been idle since, if it is the same.
    requested: u32,
}

/// A connection and the handle that closes it, once its task runs.
struct OpenConnection {
    activity: Arc<Activity>,
    task: Option<AbortHandle>,
}

impl OpenConnection {
    fn close(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The open connections of one worker. The acceptor closes the idlest.
pub(super) struct OpenConnections {
    clock: Arc<AtomicU32>,
    /// By serial.
    open: Mutex<HashMap<u64, OpenConnection>>,
    needs_preface: bool,
}

impl OpenConnections {
    /// No connections. With `needs_preface` each has to begin with the preface of HTTP/2.
    pub(super) fn new(needs_preface: bool) -> Self {
        Self { clock: Arc::default(), open: Mutex::default(), needs_preface }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, OpenConnection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection that has just been accepted.
    pub(super) fn insert(&self, serial: u64) -> Arc<Activity> {
        let now = self.clock.load(Relaxed);
        let activity = Arc::new(Activity {
            serial,
            clock: Arc::clone(&self.clock),
            opened: now,
            moved: AtomicU32::new(now),
            requested: AtomicU32::new(now),
            has_responded: AtomicBool::new(false),
            writing_since: AtomicU32::new(0),
            received: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            waiting: WaitingBodies::default(),
        });
        let connection = OpenConnection { activity: Arc::clone(&activity), task: None };
        self.open().insert(serial, connection);
        activity
    }

    /// Sets the task that serves a connection. If the connection has been closed meanwhile, the
    /// task ends.
    pub(super) fn set_task(&self, activity: &Activity, task: AbortHandle) {
        match self.open().get_mut(&activity.serial) {
            Some(connection) => connection.task = Some(task),
            None => task.abort(),
        }
    }

    /// Removes a connection that has ended.
    pub(super) fn remove(&self, activity: &Activity) {
        self.open().remove(&activity.serial);
    }

    /// The idleness of all connections.
    pub(super) fn idleness(&self) -> Vec<Idleness> {
        self.open().values().map(|connection| connection.activity.idleness()).collect()
    }

    /// Closes a connection unless it had a request since it was this idle. Returns false if it had,
    /// or has ended.
    pub(super) fn close_if_still_idle(&self, idleness: Idleness) -> bool {
        let mut open = self.open();
        let is_idle = open.get(&idleness.serial).is_some_and(|connection| {
            connection.activity.requested.load(Relaxed) == idleness.requested
        });
        if is_idle && let Some(connection) = open.remove(&idleness.serial) {
            connection.close();
        }
        is_idle
    }

    /// Counts a tick, and once a second closes the connections that have exceeded a time limit.
    /// Returns the limits.
    pub(super) fn tick(&self) -> Vec<ConnectionEnd> {
        let now = self.clock.fetch_add(1, Relaxed) + 1;
        if !now.is_multiple_of(SWEEP_TICKS) {
            return Vec::new();
        }
        let mut ends = Vec::new();
        self.open().retain(|_, connection| {
            let end = connection.activity.exceeded_limit(self.needs_preface);
            if end.is_some() {
                connection.close();
            }
            ends.extend(end);
            end.is_none()
        });
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An open connection with a task that never ends.
    fn open(connections: &OpenConnections, serial: u64) -> Arc<Activity> {
        let activity = connections.insert(serial);
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        connections.set_task(&activity, task);
        activity
    }

    fn pass(connections: &OpenConnections, ticks: u32) -> Vec<ConnectionEnd> {
        (0..ticks).flat_map(|_| connections.tick()).collect()
    }

    /// The serial of the connection that is closed next.
    fn idlest(connections: &OpenConnections) -> u64 {
        connections.idleness().into_iter().min().unwrap().serial
    }

    #[tokio::test]
    async fn a_connection_of_http_2_has_10_s_for_its_preface_in_pieces_or_at_once() {
        let connections = OpenConnections::new(true);
        let (silent, half, whole) =
            (open(&connections, 0), open(&connections, 1), open(&connections, 2));
        half.record_read(24);
        whole.record_read(1);
        assert_eq!(pass(&connections, 90), []);
        half.record_read(8);
        whole.record_read(32);
        assert_eq!(pass(&connections, 10), [ConnectionEnd::Handshake; 2]);
        assert_eq!(idlest(&connections), 2);
        drop((silent, half));
        assert_eq!(pass(&connections, 290), [ConnectionEnd::Stalled]);
    }

    #[tokio::test]
    async fn a_connection_with_a_body_that_its_client_does_not_take_is_closed_after_30_s() {
        let connections = OpenConnections::new(false);
        let (one, two) = (open(&connections, 0), open(&connections, 1));
        pass(&connections, 49);
        let held = one.begin_body_wait();
        for _ in 0..30 {
            // Another body of the same connection, and all of the other's, are taken in time.
            let taken = [one.begin_body_wait(), two.begin_body_wait()];
            one.record_read(1);
            two.record_read(1);
            assert_eq!(pass(&connections, 10), []);
            one.end_body_wait(taken[0]);
            two.end_body_wait(taken[1]);
        }
        two.record_read(1);
        assert_eq!(pass(&connections, 100), [ConnectionEnd::Unread]);
        assert_eq!(idlest(&connections), 1);
        one.end_body_wait(held);
    }

    #[tokio::test]
    async fn a_connection_that_moves_nothing_is_closed_after_30_s_unless_a_request_is_pending() {
        let connections = OpenConnections::new(false);
        let (idle, busy, moving) =
            (open(&connections, 0), open(&connections, 1), open(&connections, 2));
        let pending = busy.begin_request();
        pass(&connections, 290);
        moving.record_write();
        assert_eq!(pass(&connections, 10), [ConnectionEnd::Stalled]);
        drop((idle, pending));
        assert_eq!(pass(&connections, 10), [ConnectionEnd::Stalled], "it was pending");
        assert_eq!(pass(&connections, 270), []);
        assert_eq!(pass(&connections, 10), [ConnectionEnd::Stalled]);
    }

    #[tokio::test]
    async fn a_client_that_reads_a_little_at_a_time_has_30_s_for_each_buffer() {
        let connections = OpenConnections::new(false);
        let activity = open(&connections, 0);
        let trickle = |ticks: u32| {
            (0..ticks / 10).find_map(|_| {
                activity.record_write();
                activity.record_blocked(true);
                pass(&connections, 10).pop()
            })
        };
        assert_eq!(trickle(290), None);
        activity.record_blocked(false);
        assert_eq!(trickle(290), None);
        assert_eq!(trickle(10), Some(ConnectionEnd::Unread));
    }

    #[tokio::test]
    async fn the_connection_without_a_request_for_the_longest_is_the_idlest() {
        let connections = OpenConnections::new(false);
        let first = open(&connections, 0);
        let second = open(&connections, 1);
        assert_eq!(idlest(&connections), 0);
        pass(&connections, 1);
        drop(first.begin_request());
        assert_eq!(idlest(&connections), 1);
        let chosen = connections.idleness().into_iter().min().unwrap();
        pass(&connections, 1);
        // Bytes alone are no request: a client that sends one now and then stays the idlest.
        second.record_read(1);
        assert_eq!(idlest(&connections), 1);
        let third = open(&connections, 2);
        drop((first.begin_request(), second.begin_request()));
        assert_eq!(idlest(&connections), 2, "it has had no response yet");
        assert!(!connections.close_if_still_idle(chosen), "it has had a request since");
        let chosen = connections.idleness().into_iter().min().unwrap();
        assert!(connections.close_if_still_idle(chosen));
        assert!(!connections.close_if_still_idle(chosen), "it is closed already");
        pass(&connections, 10);
        let fourth = open(&connections, 3);
        assert_eq!(idlest(&connections), 0, "a new client has a second for its request");
        pass(&connections, 10);
        assert_eq!(idlest(&connections), 3, "then it is a silent one");
        drop((third, fourth));
    }
}
