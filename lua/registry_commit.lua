-- Commits changes of entries atomically, with notes for the audit log; or nothing.
--
-- KEYS[1]  the entries, a hash by path
-- KEYS[2]  their paths, a sorted set of equal scores, for pages in order
-- KEYS[3]  the paths changed by each revision, a sorted set: REVISION:PATH by revision
-- KEYS[4]  the newest revision
-- KEYS[5]  the notes, a stream
-- KEYS[6]  the editor whose turn it is: commits of other editors conflict
-- KEYS[7]  the index, a sorted set of equal scores; its empty row says that it has all rows
-- ARGV[1]  number of revisions that KEYS[3] retains
-- ARGV[2]  number of notes to keep, the newest
-- ARGV[3]  the editor; empty for a commit that takes no turns
-- ARGV[4]  the longest time of a turn in ms, from the editor's conflict on
-- ARGV[5]  two characters for each entry: its expected and its new value, '1' if there is one
-- ARGV[6]  the number of notes
-- ARGV[7]  a character for each row of the index: '1' adds it, '0' removes it
-- ARGV[..] the notes
-- ARGV[..] for each entry its path, its expected and its new value, as they are: they may be large,
--          and all nodes wait while a script parses; behind them the rows of the index
-- Returns  the new revision, or 0 if an entry does not have its expected value, or it is the turn of
--          another editor

local editor = ARGV[3]
if editor ~= '' then
  local turn = redis.call('GET', KEYS[6])
  if turn and turn ~= editor then return 0 end
end
local exists = ARGV[5]
local notes = tonumber(ARGV[6])
local first = 8 + notes
local count = #exists / 2
for entry = 1, count do
  local is = redis.call('HGET', KEYS[1], ARGV[first + 3 * entry - 3])
  local was = exists:sub(2 * entry - 1, 2 * entry - 1) == '1' and ARGV[first + 3 * entry - 2]
  if is ~= was then
    if editor ~= '' then redis.call('SET', KEYS[6], editor, 'PX', ARGV[4]) end
    return 0
  end
end
local revision = redis.call('INCR', KEYS[4])
for entry = 1, count do
  local path = ARGV[first + 3 * entry - 3]
  if exists:sub(2 * entry, 2 * entry) == '1' then
    redis.call('HSET', KEYS[1], path, ARGV[first + 3 * entry - 1])
    redis.call('ZADD', KEYS[2], 0, path)
  else
    redis.call('HDEL', KEYS[1], path)
    redis.call('ZREM', KEYS[2], path)
  end
  redis.call('ZADD', KEYS[3], revision, string.format('%.0f', revision) .. ':' .. path)
end
local index = ARGV[7]
for row = 1, #index do
  local command = index:sub(row, row) == '1' and { 'ZADD', KEYS[7], 0 } or { 'ZREM', KEYS[7] }
  command[#command + 1] = ARGV[first + 3 * count + row - 1]
  redis.call(unpack(command))
end
-- Nothing was there before the first commit.
if revision == 1 then redis.call('ZADD', KEYS[7], 0, '') end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', revision - ARGV[1])
for note = 8, first - 1 do
  redis.call('XADD', KEYS[5], 'MAXLEN', ARGV[2], '*', 'note', ARGV[note])
end
if editor ~= '' then redis.call('DEL', KEYS[6]) end
return revision
