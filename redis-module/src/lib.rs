//! A module for Redis and Valkey that judges checks in native code: the command `TG.JUDGE`.
//!
//! It decides by `tollgate-core`, which the service runs too; Redis without the module runs the twin in
//! `lua/`. Both may serve one key space at the same time. There is no data type and no state: keys are
//! plain strings, and replicas receive `SET` commands, so they need no module.

mod judge;
mod key;

use redis_module::alloc::RedisAlloc;
use redis_module::redis_module;

redis_module! {
    name: "tollgate",
    version: 1,
    allocator: (RedisAlloc, RedisAlloc),
    data_types: [],
    commands: [
        // Keys are counted by an argument, so Redis asks the command for their places.
        ["tg.judge", judge::command, "write getkeys-api", 0, 0, 0, ""],
    ],
}
