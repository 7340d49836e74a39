-- The limits of a call, packed one after the other. Each begins with <B I7>:
--
--   flags  1 for a shadow limit, plus 2 for one that refuses only if all alternatives of the check
--          do, plus 4 for a counter of daily usage, whose days are kept when they are over, plus 8
--          if no subject that is new is to be charged
--   id     of the counter, as lua/subject.lua defines it
--
-- The rest is defined in the file of the kind's algorithm.

local function unpack_limits(packed, now)
  local limits, at, len = {}, 1, #packed
  while at <= len do
    local flags, algorithm, limit = byte(packed, at), ALGORITHMS[byte(packed, at + 2) % 32]
    if not algorithm then
      algorithm = algorithm_of_slots()
    end
    limit, at = algorithm[1](packed, at, now)
    if flags >= 8 then
      flags, limit[12] = flags - 8, true
    end
    limit[READ], limit[SHADOW], limit[ALTERNATIVE] = algorithm[2], flags % 2 == 1, flags % 4 >= 2
    limit[DAILY], limit[WRITE] = flags >= 4, algorithm[3]
    limits[#limits + 1] = limit
  end
  return limits
end
