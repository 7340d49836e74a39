-- The clock of a call: Redis', read once (us since 1970). The beginning of both scripts.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
