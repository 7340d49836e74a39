-- Commits changes of entries atomically, with a note for the audit log; or nothing.
--
-- KEYS[1]  the entries, a hash by path
-- KEYS[2]  their paths, a sorted set of equal scores, for pages in order
-- KEYS[3]  the paths changed by each revision, a sorted set: REVISION:PATH by revision
-- KEYS[4]  the newest revision
-- KEYS[5]  the notes, a stream
-- ARGV[1]  number of revisions that KEYS[3] retains
-- ARGV[2]  the expected and the new value of each entry, a JSON array of {path, was, becomes}; null
--          is a missing entry
-- ARGV[3]  number of notes to keep, the newest
-- ARGV[4]  the note
-- Returns  the new revision, or 0 if an entry does not have its expected value

local changes = cjson.decode(ARGV[2])
for _, change in ipairs(changes) do
  local is = redis.call('HGET', KEYS[1], change.path)
  local was = change.was
  if was == cjson.null then was = false end
  if is ~= was then return 0 end
end
local revision = redis.call('INCR', KEYS[4])
for _, change in ipairs(changes) do
  if change.becomes == cjson.null then
    redis.call('HDEL', KEYS[1], change.path)
    redis.call('ZREM', KEYS[2], change.path)
  else
    redis.call('HSET', KEYS[1], change.path, change.becomes)
    redis.call('ZADD', KEYS[2], 0, change.path)
  end
  redis.call('ZADD', KEYS[3], revision, string.format('%.0f', revision) .. ':' .. change.path)
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', revision - ARGV[1])
redis.call('XADD', KEYS[5], 'MAXLEN', ARGV[3], '*', 'note', ARGV[4])
return revision
