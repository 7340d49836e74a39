-- Changes entries together and keeps a note of it, or nothing.
--
-- KEYS[1]  the entries, a hash by path
-- KEYS[2]  their paths, a sorted set of equal scores, for pages in order
-- KEYS[3]  which paths each revision touched, a sorted set: REVISION:PATH by revision
-- KEYS[4]  the newest revision
-- KEYS[5]  the notes, a stream
-- ARGV[1]  how many revisions KEYS[3] remembers
-- ARGV[2]  what each entry must still be, and becomes, a JSON array of {path, was, becomes};
--          null stands for no entry
-- ARGV[3]  how many notes are kept, the newest
-- ARGV[4]  the note
-- Returns  the new revision, or 0 where an entry is not what it should be

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
