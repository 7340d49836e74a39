-- Enqueues events that were never enqueued before.
--
-- KEYS[1]   the queue: a sorted set of ids by the time at which they are due, in milliseconds
-- KEYS[2]   the events, a hash by id: ATTEMPTS, a space, and the body
-- KEYS[2+i] the marker of an event that was enqueued
-- ARGV[1]   capacity of the queue
-- ARGV[3i-1], ARGV[3i], ARGV[3i+1]  the event's id, its body in one line, and the time at which its
--           marker expires, in seconds of Redis' clock
-- Returns   the number of events handled, from the first on; for the others there is no room

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local room = ARGV[1] - redis.call('ZCARD', KEYS[1])
for i = 1, #KEYS - 2 do
  local id, body, forget = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  if not redis.call('GET', KEYS[2 + i]) then
    if room <= 0 then return i - 1 end
    redis.call('HSET', KEYS[2], id, '0 ' .. body)
    redis.call('ZADD', KEYS[1], now, id)
    -- Last: if Redis refuses one of the other commands, there is no marker.
    redis.call('SET', KEYS[2 + i], '', 'EXAT', forget)
    room = room - 1
  end
end
return #KEYS - 2
