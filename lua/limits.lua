-- The limits of a call, packed one after the other. Each begins with <B I6>:
--
--   flags  1 for a shadow limit, plus 2 for one that refuses only if all alternatives of the check
--          do, plus 4 for a counter of daily usage, whose days are kept when they are over
--   id     of the counter, its kind in the lowest byte
--
-- The rest is defined in the file of the kind's algorithm.

local function unpack_limits(packed, now)
  local limits, at, len = {}, 1, #packed
  while at <= len do
    local flags, algorithm, limit = byte(packed, at), ALGORITHMS[byte(packed, at + 1)]
    limit, at = algorithm.limit(packed, at, now)
    limit[ALGORITHM] = algorithm
    limit[SHADOW], limit[ALTERNATIVE] = flags % 2 == 1, flags % 4 >= 2
    limit[DAILY] = flags >= 4
    limits[#limits + 1] = limit
  end
  return limits
end
