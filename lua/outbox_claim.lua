-- Claims events that are due: no other node is given them until the claim expires.
--
-- KEYS[1]  the queue, as lua/outbox_enqueue.lua writes it
-- KEYS[2]  the events
-- ARGV[1]  duration of the claim, in milliseconds
-- ARGV[2]  number of events to claim, at most
-- Returns  the time in milliseconds, the number of events in the queue, and for each claimed event
--          its id, the number of this attempt, and its body

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = { now, redis.call('ZCARD', KEYS[1]) }
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do
  local entry = redis.call('HGET', KEYS[2], id)
  if entry then
    local attempts, body = string.match(entry, '^(%d+) (.*)$')
    attempts = attempts + 1
    redis.call('HSET', KEYS[2], id, attempts .. ' ' .. body)
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[1]), id)
    for _, part in ipairs({ id, attempts, body }) do reply[#reply + 1] = part end
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return reply
