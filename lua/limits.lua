-- The limits of a call, packed one after the other:
--
--   throttle  <B I5 ddd>            kind, id, drain per us, per, size in 1/per units
--   quota     <B I5 ddddd I5I5I5>   kind, id, limit in units, where three neighbouring windows
--             begin and the last ends (us since 1970), their names
--   kind      1 for a quota, plus 2 in shadow, plus 4 for one that refuses only where all of the
--             check's alternatives do, plus 8 for a count by days that are kept when they are over
--
-- What they mean is for their algorithms' files.

-- Slots of a limit. Of a quota whether it is one, the window that `now` lies in, and until when a
-- row of that window matters.
local ID, DRAIN, PER, SIZE, WINDOW, ENDS = 2, 3, 4, 5, 6, 7
local QUOTA, SHADOW, ALTERNATIVE, TRACKS_DAYS = 8, 9, 10, 11

local function unpack_limits(packed, now)
  local limits, offset, len = {}, 1, #packed
  while offset <= len do
    local kind = byte(packed, offset)
    local limit
    if kind % 2 == 0 then
      limit = { unpack_from('<BI5ddd', packed, offset) }
      offset = limit[6]
      limit[WINDOW], limit[QUOTA] = false, false
    else
      local _, id, size, a, b, c, d, x, y, z, next_offset = unpack_from('<BI5dddddI5I5I5', packed, offset)
      local window, ends = current_window(now, a, b, c, d, x, y, z)
      if window and kind >= 8 then
        ends = ends + USAGE_RETENTION_SECS * 1000000
      end
      limit = { kind, id, 0, 1, size, window or false, ends or 0, true }
      offset = next_offset
    end
    limit[SHADOW], limit[ALTERNATIVE], limit[TRACKS_DAYS] = kind % 4 >= 2, kind % 8 >= 4, kind >= 8
    limits[#limits + 1] = limit
  end
  return limits
end
