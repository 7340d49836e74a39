-- Settles a claimed event: removes it, or schedules its next attempt.
--
-- KEYS[1]  the queue, as lua/outbox_enqueue.lua writes it
-- KEYS[2]  the events
-- ARGV[1]  the event's id
-- ARGV[2]  the time of the next attempt, in milliseconds; '' removes the event
-- Returns  nothing. An event that another node has removed stays removed.

if ARGV[2] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[1], 'XX', ARGV[2], ARGV[1])
end
