-- Notes events that were never noted before.
--
-- KEYS[1]   the queue: a sorted set of ids by when they are due, in milliseconds
-- KEYS[2]   the events, a hash by id: ATTEMPTS, a space, and what is told
-- KEYS[2+i] what remembers that the event was noted
-- ARGV[1]   the most events that may wait
-- ARGV[3i-1], ARGV[3i], ARGV[3i+1]  the event's id, what is told in one line, and the second of
--           Redis' clock at which it may be forgotten that it was noted
-- Returns   how many events are dealt with, from the first on; for the rest there is no room

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local room = ARGV[1] - redis.call('ZCARD', KEYS[1])
for i = 1, #KEYS - 2 do
  local id, body, forget = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  if not redis.call('GET', KEYS[2 + i]) then
    if room <= 0 then return i - 1 end
    redis.call('HSET', KEYS[2], id, '0 ' .. body)
    redis.call('ZADD', KEYS[1], now, id)
    -- Last: where Redis refuses one of the others, it is not noted.
    redis.call('SET', KEYS[2 + i], '', 'EXAT', forget)
    room = room - 1
  end
end
return #KEYS - 2
