-- The calendar quota: how much of the current window is used. Twin of
-- src/algorithm/calendar_quota.rs; change them together.

-- Which of three windows holds `now`: its name and its end (us). nil outside all of them. The
-- bounds are where each begins and where the last ends; the names are those of src/limit/calendar.rs.
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

-- How long a day that is over can be told, in seconds: 62 days.
local USAGE_RETENTION_SECS = 62 * 86400

-- What counts while `current` is the window that the clock shows: units used, and their window;
-- and true where another one is over.
local function current_count(rows, offset, current)
  if offset then
    local used, window = unpack_from('<i7I5', rows, offset + 5)
    if window >= current then
      return used, window
    end
    return 0, current, true
  end
  return 0, current
end

-- The row of a count. More than the limit may be left of it: then less than nothing is used.
local function quota_row(id, used, window)
  return pack('<I5i7I5', id, used, window)
end

-- How much of the count at `offset` is left once `amount`, charged in the window `name`, is given back;
-- and its window. nil where another window counts by now. Never does it make more room than there
-- was before the first charge, or than a grant has made.
local function after_refund(rows, offset, amount, name)
  local used, window = unpack_from('<i7I5', rows, offset + 5)
  if window == name then
    return math.max(math.min(used, 0), used - amount), window
  end
end
