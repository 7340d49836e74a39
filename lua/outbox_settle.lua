-- Says what has become of an event that was claimed.
--
-- KEYS[1]  the queue, as lua/outbox_enqueue.lua writes it
-- KEYS[2]  the events
-- ARGV[1]  the event's id
-- ARGV[2]  when it is due again, in milliseconds; '' strikes it off
-- Returns  nothing. What somebody else has struck off stays so.

if ARGV[2] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[1], 'XX', ARGV[2], ARGV[1])
end
