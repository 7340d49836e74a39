-- Lists the entries changed since a revision.
--
-- KEYS[1]  the paths changed by each revision, as lua/registry_commit.lua writes them
-- KEYS[2]  the newest revision
-- ARGV[1]  the revision to compare with
-- ARGV[2]  number of revisions that KEYS[1] retains
-- ARGV[3]  the most paths of a reply
-- Returns  the newest revision; 1 if the changed paths are known, 0 if any entry may have changed
--          or they are too many; and the paths

local revision = tonumber(redis.call('GET', KEYS[2]) or 0)
local since = tonumber(ARGV[1])
if since > revision or revision - since > tonumber(ARGV[2]) then return { revision, 0 } end
local most = tonumber(ARGV[3])
local changed = redis.call('ZRANGEBYSCORE', KEYS[1], since + 1, '+inf', 'LIMIT', 0, most + 1)
if #changed > most then return { revision, 0 } end
local reply = { revision, 1 }
for i, touched in ipairs(changed) do
  reply[2 + i] = string.match(touched, '^%d+:(.*)$')
end
return reply
