//! A key that is open: its string is read, and changed in place.
//!
//! All access to Redis' memory is here. No two open keys may have the same name: a change under one
//! would leave the other with a freed string.
#![expect(unsafe_code, reason = "Redis' strings are reached by pointers")]

use std::marker::PhantomData;
use std::slice;

use redis_module::raw::{self, KeyMode, RedisModuleKey, Status};
use redis_module::{Context, RedisError, RedisString};
use tollgate_core::packed::{KeyWrite, StoredValue};

/// A key that is open for reading and writing, until it is dropped.
pub(crate) struct Key<'c> {
    key: *mut RedisModuleKey,
    context: PhantomData<&'c Context>,
}

impl<'c> Key<'c> {
    /// Opens the key of this name, which is not open already.
    pub(crate) fn open(context: &'c Context, name: &RedisString) -> Self {
        let key = raw::open_key(context.ctx, name.inner, KeyMode::READ | KeyMode::WRITE);
        Self { key, context: PhantomData }
    }

    /// What is stored under it, as `S` keeps it.
    pub(crate) fn read<S: for<'v> From<StoredValue<'v>>>(&self) -> S {
        // SAFETY: the key is open. Redis fills in this function when it loads the module.
        match unsafe { raw::RedisModule_KeyType.map(|key_type| key_type(self.key)) } {
            Some(kind) if kind == raw::KeyType::Empty as i32 => StoredValue::Missing.into(),
            Some(kind) if kind == raw::KeyType::String as i32 => {
                let mut len = 0;
                let start = raw::string_dma(self.key, &raw mut len, KeyMode::READ);
                if start.is_null() {
                    return StoredValue::OtherType.into();
                }
                // SAFETY: Redis returns the place and length of the string, which stays there until the
                // next call of the API.
                StoredValue::String(unsafe { slice::from_raw_parts(start.cast(), len) }).into()
            }
            _ => StoredValue::OtherType.into(),
        }
    }

    /// Deletes it, or stores a string: in place if it has the length of the stored one.
    pub(crate) fn write(&self, write: &KeyWrite<'_>) -> Result<(), RedisError> {
        let failed = || RedisError::Str("ERR a key could not be written");
        let KeyWrite::Set { value, expires_at_ms } = *write else {
            return self.delete().ok_or_else(failed);
        };
        // SAFETY: the key is open.
        let kind = unsafe { raw::RedisModule_KeyType.map(|key_type| key_type(self.key)) };
        let holds_other = ![raw::KeyType::Empty, raw::KeyType::String]
            .map(|kind| Some(kind as i32))
            .contains(&kind);
        if holds_other {
            self.delete().ok_or_else(failed)?;
        }
        let mut len = 0;
        // SAFETY: the key is open.
        let stored = unsafe { raw::RedisModule_ValueLength.map(|len_of| len_of(self.key)) };
        if stored != Some(value.len()) && raw::string_truncate(self.key, value.len()) != Status::Ok
        {
            return Err(failed());
        }
        let start = raw::string_dma(self.key, &raw mut len, KeyMode::READ | KeyMode::WRITE);
        if start.is_null() || len != value.len() {
            return Err(failed());
        }
        // SAFETY: Redis returns the place of a string of this length that nothing else refers to.
        unsafe { slice::from_raw_parts_mut(start.cast::<u8>(), len) }.copy_from_slice(value);
        if let Some(at) = expires_at_ms {
            let at = i64::try_from(at).unwrap_or(i64::MAX);
            // SAFETY: the key is open for writing.
            let set = unsafe { raw::RedisModule_SetAbsExpire.map(|set| set(self.key, at)) };
            return set.filter(|set| *set == Status::Ok as i32).map(|_| ()).ok_or_else(failed);
        }
        Ok(())
    }

    /// Deletes it; `None` if that failed.
    fn delete(&self) -> Option<()> {
        // SAFETY: the key is open for writing.
        let deleted = unsafe { raw::RedisModule_DeleteKey.map(|delete| delete(self.key)) };
        deleted.filter(|deleted| *deleted == Status::Ok as i32).map(|_| ())
    }
}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        raw::close_key(self.key);
    }
}
