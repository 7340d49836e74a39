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

-- What counts while `current` is the window that the clock shows: units used, and their window.
local function counting(rows, at, current)
  if at then
    local used, window = unpack_from('<I7I5', rows, at + 5)
    if window >= current then
      return used, window
    end
  end
  return 0, current
end

-- How much of the count at `at` is left once `amount`, charged in the window `name`, is given back;
-- and its window. nil where another window counts by now.
local function after_refund(rows, at, amount, name)
  local used, window = unpack_from('<I7I5', rows, at + 5)
  if window == name then
    return math.max(0, used - amount), window
  end
end
