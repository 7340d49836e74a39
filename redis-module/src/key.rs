//! A key that is open: its string is read, and changed in place; and how others learn of the change.
//!
//! All access to Redis' memory is here. No two open keys may have the same name: a change under one
//! would leave the other with a freed string. Redis' functions are called without the bindings' own
//! wrappers where those copy each word first.
#![expect(unsafe_code, reason = "Redis' strings are reached by pointers")]

use std::ffi::CStr;
use std::slice;

use redis_module::raw::{self, KeyMode, RedisModuleKey, Status};
use redis_module::{Context, NotifyEvent, RedisError, RedisString};
use tollgate_core::packed::{KeyWrite, StoredValue};

/// A key that is open for reading and writing, until it is dropped.
pub(crate) struct Key<'c> {
    handle: *mut RedisModuleKey,
    name: &'c RedisString,
    context: &'c Context,
}

impl<'c> Key<'c> {
    /// Opens the key of this name, which is not open already.
    pub(crate) fn open(context: &'c Context, name: &'c RedisString) -> Self {
        let handle = raw::open_key(context.ctx, name.inner, KeyMode::READ | KeyMode::WRITE);
        Self { handle, name, context }
    }

    /// What is stored under it, as `S` keeps it.
    pub(crate) fn read<S: for<'v> From<StoredValue<'v>>>(&self) -> S {
        let mut len = 0;
        let start = raw::string_dma(self.handle, &raw mut len, KeyMode::READ);
        if start.is_null() {
            return StoredValue::OtherType.into();
        }
        // A missing key reads as an empty string.
        if len == 0 && self.is_a(raw::KeyType::Empty) {
            return StoredValue::Missing.into();
        }
        // SAFETY: Redis returns the place and length of the string, which stays there until the
        // next call of the API.
        StoredValue::String(unsafe { slice::from_raw_parts(start.cast(), len) }).into()
    }

    fn is_a(&self, kind: raw::KeyType) -> bool {
        // SAFETY: the key is open. Redis fills in this function when it loads the module.
        unsafe {
            raw::RedisModule_KeyType.is_some_and(|kind_of| kind_of(self.handle) == kind as i32)
        }
    }

    /// Makes a change, and sends it to the replicas.
    pub(crate) fn write(
        &self,
        write: &KeyWrite<'_>,
        keep_ttl: &RedisString,
    ) -> Result<(), RedisError> {
        let written = self.store(write).and_then(|()| self.replicate(write, keep_ttl));
        written.ok_or(RedisError::Str("ERR a key could not be written"))
    }

    /// Deletes it, or stores a string: in place if it has the length of the stored one. `None` if
    /// that failed.
    fn store(&self, write: &KeyWrite<'_>) -> Option<()> {
        let KeyWrite::Set { value, expires_at_ms } = *write else { return self.delete() };
        let start = self.make_room(value.len())?;
        // SAFETY: the place of a string of this length that nothing else refers to.
        unsafe { slice::from_raw_parts_mut(start, value.len()) }.copy_from_slice(value);
        if let Some(at) = expires_at_ms {
            let at = i64::try_from(at).unwrap_or(i64::MAX);
            // SAFETY: the key is open for writing.
            let set = unsafe { raw::RedisModule_SetAbsExpire.map(|set| set(self.handle, at)) };
            return set.filter(|set| *set == Status::Ok as i32).map(|_| ());
        }
        Some(())
    }

    /// The place of a string of this length, not 0, to be written; `None` if there is none.
    fn make_room(&self, len: usize) -> Option<*mut u8> {
        let place = || {
            let mut stored = 0;
            let start =
                raw::string_dma(self.handle, &raw mut stored, KeyMode::READ | KeyMode::WRITE);
            (!start.is_null() && stored == len).then_some(start.cast())
        };
        // Most strings keep their length.
        place().or_else(|| {
            if ![raw::KeyType::Empty, raw::KeyType::String].into_iter().any(|kind| self.is_a(kind))
            {
                self.delete()?;
            }
            (raw::string_truncate(self.handle, len) == Status::Ok).then(place)?
        })
    }

    /// Deletes it; `None` if that failed.
    fn delete(&self) -> Option<()> {
        // SAFETY: the key is open for writing.
        let deleted = unsafe { raw::RedisModule_DeleteKey.map(|delete| delete(self.handle)) };
        deleted.filter(|deleted| *deleted == Status::Ok as i32).map(|_| ())
    }

    /// Sends a change to the replicas and the AOF: they need no module for these commands, and expire
    /// the key at the same time. `keep_ttl` is the word `KEEPTTL`.
    fn replicate(&self, write: &KeyWrite<'_>, keep_ttl: &RedisString) -> Option<()> {
        let (context, name, set) = (self.context.ctx, self.name.inner, c"SET".as_ptr());
        // SAFETY: the words are of the types that the formats name: s is a string of Redis, b are bytes
        // and their number, c is a text, l a number of 64 bits. Redis copies all but its own strings.
        unsafe {
            let replicate = raw::RedisModule_Replicate?;
            match *write {
                KeyWrite::Delete => replicate(context, c"DEL".as_ptr(), c"s".as_ptr(), name),
                KeyWrite::Set { value, expires_at_ms: None } => {
                    let (format, start) = (c"sbs".as_ptr(), value.as_ptr());
                    replicate(context, set, format, name, start, value.len(), keep_ttl.inner)
                }
                KeyWrite::Set { value, expires_at_ms: Some(at) } => {
                    let (format, start) = (c"sbcl".as_ptr(), value.as_ptr());
                    replicate(context, set, format, name, start, value.len(), c"PXAT".as_ptr(), at)
                }
            }
        };
        Some(())
    }
}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        raw::close_key(self.handle);
    }
}

/// Publishes an event of a key that is not open any more.
pub(crate) fn notify(context: &Context, kind: NotifyEvent, event: &CStr, name: &RedisString) {
    // SAFETY: Redis reads the text and the name during the call.
    unsafe {
        if let Some(notify) = raw::RedisModule_NotifyKeyspaceEvent {
            notify(context.ctx, kind.bits(), event.as_ptr(), name.inner);
        }
    }
}
