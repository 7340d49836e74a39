-- Tells which entries were touched since a revision.
--
-- KEYS[1]  which paths each revision touched, as lua/registry_commit.lua writes them
-- KEYS[2]  the newest revision
-- ARGV[1]  the revision since which
-- ARGV[2]  how many revisions KEYS[1] remembers
-- Returns  the newest revision, 1 where the touched paths are known and 0 where all may be, and
--          those paths

local revision = tonumber(redis.call('GET', KEYS[2]) or 0)
local since = tonumber(ARGV[1])
if since > revision or revision - since > tonumber(ARGV[2]) then return { revision, 0 } end
local reply = { revision, 1 }
for i, touched in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], since + 1, '+inf')) do
  reply[2 + i] = string.match(touched, '^%d+:(.*)$')
end
return reply
