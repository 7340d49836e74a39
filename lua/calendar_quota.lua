-- The calendar quota: the units used in the current window. Twin of
-- core/src/algorithm/calendar_quota.rs; change them together.
--
--   limit  <B I7 ddddd I5I5I5>  flags, id, limit in units, start of three adjacent windows and end
--                               of the last (us since 1970), names of the windows
--   slots  10 window that contains now, 11 its end, or until when its row matters
--   body   <i7 I5>              units used, name of the window: the civil second (since 1970) in
--                               which it starts
--   annex  <I6>                 number of the subject's newest reservation when an operator has set
--                               what remains or refunded units: reservations up to it give nothing
--                               back

local function calendar_quota()
  local pack, unpack_from = struct.pack, struct.unpack

  -- Units used and their window while the limit's window is the current one; and true if the row
  -- belongs to an earlier window. A later window than the clock's stays in force until the clock
  -- reaches it.
  local function read(rows, at, limit)
    local current = limit[10]
    if not current then
      return nil
    end
    if at then
      local used, window = unpack_from('<i7I5', rows, at + 7)
      if used > 9007199254740991 or used < -9007199254740991 then
        error('a count is above 2^53')
      end
      if window == current then
        return used, window
      end
      find_row(rows, 0)
      if window > current then
        return used, window
      end
      return 0, current, false, true
    end
    return 0, current
  end

  local function write(_, _, limit, used, window)
    return pack('<I7i7I5', limit[2], used, window), limit[11]
  end

  -- Judges a charge in the window in which the row was written: see lua/usual_checks.lua.
  local function usual(rows, at, limit, amount)
    local header, head, used, window, behind
    if at == 1 and #rows >= 24 then
      header, head, used, window, behind = unpack_from('<I5I7i7I5', rows)
    elseif at > 1 and #rows >= at + 18 then
      head, used, window, behind = unpack_from('<I7i7I5', rows, at)
    end
    if head ~= limit[2] or header and header % 256 ~= 2 or window ~= limit[10]
      or used > 9007199254740991 or used < -9007199254740991 then
      return nil
    end
    local after = used + amount
    if after > limit[5] then
      return used, window, nil, 0, behind, header
    elseif header then
      return used, window, pack('<I5I7i7I5', header, head, after, window), limit[11], behind, header
    end
    return used, window, pack('<I7i7I5', head, after, window), limit[11], behind
  end

  -- The window's end is not stored: the row is kept for as long as any window lasts, at most a leap
  -- year and the time zones.
  local function matters(rows, at, now)
    local _, window = unpack_from('<i7I5', rows, at + 7)
    return (window + 368 * 86400) * 1000000 >= now
  end

  local rare
  local function rare_functions()
    if rare then
      return rare
    end

    rare = {
      -- Refunds units within the window they were charged in, named by `charged`. The room grows no
      -- larger than it was before the first charge, or than a grant has made it.
      refund = function(rows, at, limit, amount, charged)
        local used, window = unpack_from('<i7I5', rows, at + 7)
        if window == charged then
          used = math.max(math.min(used, 0), used - amount)
          return (write(rows, at, limit, used, window))
        end
      end,

      -- Changes: 1 sets the remaining units, 2 grants units, 3 refunds units, 4 resets.
      correct = function(rows, at, limit, change, amount, granted)
        local used, window = read(rows, at, limit)
        local day, after = window / 86400, 0
        if change == 1 then
          after = limit[5] - amount
        elseif change == 2 then
          after = used - amount
        elseif change == 3 then
          after = used - math.min(amount, math.max(0, used + granted(day)))
        end
        -- Sums with a corrected count stay exact.
        after = math.max(-2 ^ 52, math.min(2 ^ 52, after))
        local row, till = write(rows, at, limit, after, window)
        return row, till, day, change == 3 and 0 or used - after
      end,

      -- A later number in the annex belongs to an earlier life of the subject's numbers.
      reserve = function(rows, at, annex, limit, level, window, amount, number)
        local after = math.min(level + amount, 9007199254740991)
        local row, till = write(rows, at, limit, after, window)
        return row, till, annex and struct.unpack('<I6', rows, annex + 7) >= number and '' or nil
      end,

      -- Within the window charged the count follows exactly. In a later one nothing goes back, and
      -- what was used beyond the charge counts there.
      adjust = function(rows, at, annex, limit, used, window, number, charged, from, to)
        local corrected, exact = annex and struct.unpack('<I6', rows, annex + 7) or 0
        if at and number and number > corrected and window == charged then
          exact = struct.unpack('<I5', rows, at + 14) == charged
        end
        local change = to - from
        if not exact then
          change = math.max(change, 0)
        end
        used = math.min(used + change, 9007199254740991)
        if change == 0 then
          return used, window
        end
        local row, till = write(rows, at, limit, used, window)
        return used, window, row, till
      end,

      correct_annex = function(_, _, _, limit, change, number)
        return change ~= 2 and struct.pack('<I7I6', limit[2] - 12 + 1024 + 6, number) or nil
      end,
    }
    return rare
  end

  -- The limit with the one of three windows that contains `now`; false outside all of them.
  local function unpack_limit(packed, at, now)
    local flags, id, size, first, second, third, last, name1, name2, name3, behind =
      unpack_from('<BI7dddddI5I5I5', packed, at)
    local window, ends
    if now < first or now >= last then
      window = false
    elseif now < second then
      window, ends = name1, second
    elseif now < third then
      window, ends = name2, third
    else
      window, ends = name3, last
    end
    if window and flags % 8 >= 4 then
      ends = ends + 62 * 86400 * 1000000
    end
    local limit = { read, id + 12, 0, 1, size, false, false, false, write, window, ends or 0,
      rare_functions, nil, usual }
    return limit, behind
  end

  return unpack_limit, matters
end
