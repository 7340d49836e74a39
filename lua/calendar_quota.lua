-- The calendar quota: the units used in the current window. Twin of
-- src/algorithm/calendar_quota.rs; change them together.
--
--   limit  <B I6 ddddd I5I5I5>  flags, id, limit in units, start of three adjacent windows and end
--                               of the last (us since 1970), names of the windows
--   body   <i7 I5>              units used, name of the window: the civil second (since 1970) in
--                               which it starts

-- The retention of daily usage in seconds: 62 days.
local USAGE_RETENTION_SECS = 62 * 86400
-- An upper bound of any window's length: a leap year and the time zones, in seconds.
local MAX_WINDOW_SECS = 368 * 86400
-- The largest count that a correction results in, in either direction: sums with it stay exact.
local MAX_CORRECTED = 2 ^ 52

local WINDOW, ENDS = 6, 7

-- The one of three windows that contains `now`: its name and its end (us). nil outside all of them.
local function current_window(now, first, second, third, last, name1, name2, name3)
  if now < first or now >= last then
    return nil
  elseif now < second then
    return name1, second
  elseif now < third then
    return name2, third
  end
  return name3, last
end

-- Units used and their window while the limit's window is the current one; and true if the row
-- belongs to an earlier window. A later window than the clock's stays in force until the clock
-- reaches it.
local function used_units(rows, at, limit)
  local current = limit[WINDOW]
  if not current then
    return nil
  end
  if at then
    local used, window = unpack_from('<i7I5', rows, at + 7)
    if window >= current then
      return used, window
    end
    return 0, current, false, true
  end
  return 0, current
end

local function quota_row(limit, used, window)
  return pack('<I6Bi7I5', limit[ID], 12, used, window)
end

ALGORITHMS[2] = {
  limit = function(packed, at, now)
    local flags, id, size, a, b, c, d, x, y, z, next_at =
      unpack_from('<BI6dddddI5I5I5', packed, at)
    local window, ends = current_window(now, a, b, c, d, x, y, z)
    if window and flags >= 4 then
      ends = ends + USAGE_RETENTION_SECS * 1000000
    end
    return { flags, id, 0, 1, size, window or false, ends or 0 }, next_at
  end,

  read = used_units,

  write = function(_, _, limit, used, window)
    return quota_row(limit, used, window), limit[ENDS]
  end,

  -- Refunds units within the window they were charged in, named by `charged`. The room grows no
  -- larger than it was before the first charge, or than a grant has made it.
  refund = function(rows, at, limit, amount, charged)
    local used, window = unpack_from('<i7I5', rows, at + 7)
    if window == charged then
      return quota_row(limit, math.max(math.min(used, 0), used - amount), window)
    end
  end,

  -- Changes: 1 sets the remaining units, 2 grants units, 3 refunds units, 4 resets.
  correct = function(rows, at, limit, change, amount, granted)
    local used, window = used_units(rows, at, limit)
    local day, after = window / 86400, 0
    if change == 1 then
      after = limit[SIZE] - amount
    elseif change == 2 then
      after = used - amount
    elseif change == 3 then
      after = used - math.min(amount, math.max(0, used + granted(day)))
    end
    after = math.max(-MAX_CORRECTED, math.min(MAX_CORRECTED, after))
    return quota_row(limit, after, window), limit[ENDS], day, change == 3 and 0 or used - after
  end,

  -- The window's end is not stored: the row is kept for as long as any window lasts.
  matters = function(rows, at, now)
    local _, window = unpack_from('<i7I5', rows, at + 7)
    return (window + MAX_WINDOW_SECS) * 1000000 >= now
  end,
}
