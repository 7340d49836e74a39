-- The limits of a call, packed one after the other. Each begins with <B I7>:
--
--   flags  1 for a shadow limit, plus 2 for one that refuses only if all alternatives of the check
--          do, plus 4 for a counter of daily usage, whose days are kept when they are over, plus 8
--          if no subject that is new is to be charged, plus 16 times the kind of the counter
--   id     of the counter, as lua/subject.lua defines it
--
-- The rest is defined in the file of the kind's algorithm.

local limits = {}
do
  local packed, at, count = ARGV[1] or '', 1, 0
  local unpack_bucket, unpack_quota, unpack_slots
  while at <= #packed do
    local flags, limit = byte(packed, at)
    local kind = (flags - flags % 16) / 16
    if kind == 1 then
      unpack_bucket = unpack_bucket or token_bucket()
      limit, at = unpack_bucket(packed, at)
    elseif kind == 2 then
      unpack_quota = unpack_quota or calendar_quota()
      limit, at = unpack_quota(packed, at, now)
    else
      unpack_slots = unpack_slots or concurrency()
      limit, at = unpack_slots(packed, at)
    end
    limit[6], limit[7], limit[8] = flags % 2 == 1, flags % 4 >= 2, flags % 8 >= 4
    limit[13] = flags % 16 >= 8 or nil
    if limit[7] then
      limit[14] = nil
    end
    count = count + 1
    limits[count] = limit
  end
end
