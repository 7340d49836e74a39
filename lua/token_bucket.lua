-- The token bucket: a level that drains at a constant rate. Twin of
-- core/src/algorithm/token_bucket.rs, which documents the algorithm; change them together.
--
--   limit  <B I7 ddd>        flags, id, drain per us, per, size in 1/per units
--   slots  3 drain, 4 per
--   body   <I7 I7 I5 I5 I4>  level in 1/per units, time of that level in us, per, drain per us,
--                            start of that rate in ticks
--   annex  <I7 I7> and up to 8 times <I6 I7>
--                            level and time of the row with which it was written, then the marks:
--                            number of a reservation, and the lowest level since its charge. Twin
--                            of core/src/algorithm/marks.rs, which says why.
--
-- Makes the functions of lua/subject.lua. Slots and formats are literals, since every captured
-- local costs time in each call.
local function token_bucket()
  local pack, unpack_from = struct.pack, struct.unpack

  -- The level at `now`; and true if the clock has stepped back behind the row.
  local function read(rows, at, limit, now)
    if not at then
      return 0
    end
    local level, when, from = unpack_from('<I7I7I5', rows, at + 7)
    local to = limit[4]
    if level > 9007199254740991 then
      error('a level is above 2^53')
    end
    if from ~= to then
      find_row(rows, 0)
      if from == 0 then
        error('a bucket has no rate')
      end
      -- `level / from` in parts of `to`, rounded up, at most 2^53 - 1.
      local rest = level % from
      local product, part = rest * to
      if product <= 9007199254740991 then
        part = math.ceil(product / from)
      else
        part = math.min(to, math.ceil(rest / from * to * (1 + 2 ^ -50)))
      end
      level = math.min((level - rest) / from * to + part, 9007199254740991)
    end
    if now > when then
      level = level - (now - when) * limit[3]
      if level < 0 then
        return 0
      end
    end
    return level, nil, now < when
  end

  -- Draining begins anew with another rate; charges of the current tick may precede the change.
  local function write(rows, at, limit, level, _, now)
    local drain, per = limit[3], limit[4]
    local since = (now - now % 1048576) / 1048576
    if at then
      local was_per, was_drain, was_since = unpack_from('<I5I5I4', rows, at + 21)
      since = was_per == per and was_drain == drain and was_since or since + 1
    end
    return pack('<I7I7I7I5I5I4', limit[2], level, now, per, drain, since), now + level / drain
  end

  -- Judges a charge of a bucket that drains at the rate with which its row was written: see
  -- lua/usual_checks.lua.
  local function usual(rows, at, limit, amount, now)
    local header, head, level, when, per, drain, since, behind
    if at == 1 and #rows >= 40 then
      header, head, level, when, per, drain, since, behind = unpack_from('<I5I7I7I7I5I5I4', rows)
    elseif at > 1 and #rows >= at + 34 then
      head, level, when, per, drain, since, behind = unpack_from('<I7I7I7I5I5I4', rows, at)
    end
    if head ~= limit[2] or header and header % 256 ~= 2 or per ~= limit[4] or drain ~= limit[3]
      or when > now or level > 9007199254740991 then
      return nil
    end
    level = level - (now - when) * drain
    if level < 0 then
      level = 0
    end
    local after = level + amount
    if after > limit[5] then
      return level, nil, nil, 0, behind, header
    elseif header then
      return level, nil, pack('<I5I7I7I7I5I5I4', header, head, after, now, per, drain, since),
        now + after / drain, behind, header
    end
    return level, nil, pack('<I7I7I7I5I5I4', head, after, now, per, drain, since),
      now + after / drain, behind
  end

  local function matters(rows, at, now)
    local level, when, _, drain = unpack_from('<I7I7I5I5', rows, at + 7)
    return level > math.max(0, now - when) * drain
  end

  local rare
  local function rare_functions()
    if rare then
      return rare
    end

    local floor, min, byte, sub = math.floor, math.min, string.byte, string.sub

    -- `low / from` in parts of `to`, rounded down.
    local function convert_low(low, from, to)
      local rest = low % from
      local product, part = rest * to
      if product <= 9007199254740991 then
        part = floor(product / from)
      else
        part = floor(rest / from * to * (1 - 2 ^ -50))
      end
      return min((low - rest) / from * to + part, 9007199254740991)
    end

    -- The format of an annex with so many marks.
    local formats = {}
    local function format_of(count)
      local format = formats[count]
      if not format then
        format = '<I7I7I7' .. string.rep('I6I7', count)
        formats[count] = format
      end
      return format
    end

    -- The annex of a bucket once the level has been as low as `level`, in a table with the numbers
    -- of its row: head, level, time, and those of each mark. No low is above `level` or a newer
    -- one, of equal lows the oldest mark stays, and lows of 0 are dropped.
    local function cut(marks, level)
      local last, lowest = #marks, level
      for i = last, 5, -2 do
        if marks[i] > lowest then
          marks[i] = lowest
        else
          lowest = marks[i]
        end
      end
      local count, older = 3, 0
      for i = 5, last, 2 do
        local low = marks[i]
        if low > older then
          marks[count + 1], marks[count + 2] = marks[i - 1], low
          count, older = count + 2, low
        end
      end
      for i = last, count + 1, -1 do
        marks[i] = nil
      end
      return marks
    end

    -- Reads the annex of the row at `at`. One that does not repeat the level and time of its row
    -- has no marks: a release that knows none has written the row.
    local function read_marks(rows, at, annex, limit, level)
      local was, when, per
      if at and annex then
        was, when, per = unpack_from('<I7I7I5', rows, at + 7)
        local marks = { unpack_from(format_of(floor((byte(rows, annex) - 14) / 13)), rows, annex) }
        local last = #marks - 1
        marks[last + 1] = nil
        if marks[2] == was and marks[3] == when then
          if per == limit[4] and (last == 3 or marks[last] <= level) then
            return marks
          end
          for i = 5, per == limit[4] and 0 or last, 2 do
            marks[i] = convert_low(marks[i], per, limit[4])
          end
          return cut(marks, level)
        end
      end
      return { 0, 0, 0 }
    end

    -- The annex with these marks of a row that is written with this level and time.
    local function pack_marks(marks, limit, level, now)
      local count = (#marks - 3) / 2
      if count == 0 then
        return ''
      end
      marks[1], marks[2], marks[3] = limit[2] - 28 + 1024 + 14 + 13 * count, level, now
      return pack(format_of(count), unpack(marks))
    end

    -- Adds a mark. Marks of later numbers belong to an earlier life of the subject's numbers. Of
    -- nine marks the one goes whose loss costs least, never the oldest, and of equal losses the
    -- oldest.
    local function add_mark(marks, number, level)
      local count = #marks
      while count > 3 and marks[count - 1] >= number do
        marks[count - 1], marks[count] = nil, nil
        count = count - 2
      end
      if count == 3 or marks[count] < level then
        marks[count + 1], marks[count + 2] = number, level
        count = count + 2
      end
      if count > 3 + 16 then
        local older, other, low, least, dropped = marks[5], marks[6], marks[7]
        marks[count + 1] = number + 1
        for i = 6, count, 2 do
          local next_number, next_low = marks[i + 2], marks[i + 3]
          local loss = (low - older) * (next_number - other)
          if not least or loss < least then
            least, dropped = loss, i
          end
          older, other, low = low, next_number, next_low
        end
        for i = dropped, count - 2 do
          marks[i] = marks[i + 2]
        end
        marks[count - 1], marks[count], marks[count + 1] = nil, nil, nil
      end
    end

    -- Gives back up to `most` units to a reservation: the lows from its mark on fall. Returns the
    -- marks and what is given.
    local function give(marks, number, most)
      local low = #marks
      while low > 3 and marks[low - 1] > number do
        low = low - 2
      end
      if low == 3 then
        return marks, 0
      end
      local given = min(most, marks[low])
      for i = low, #marks, 2 do
        marks[i] = marks[i] - given
      end
      if marks[low] <= (low > 5 and marks[low - 2] or 0) then
        marks = cut(marks, marks[#marks])
      end
      return marks, given
    end

    rare = {
      -- Refunds the part that time has not drained since the charge; nothing if another rate has
      -- been in force since.
      refund = function(rows, at, limit, amount, charged, now)
        local per, drain, since = unpack_from('<I5I5I4', rows, at + 21)
        if per ~= limit[4] or drain ~= limit[3] or charged > now
            or floor(charged / 1048576) < since then
          return nil
        end
        local given = amount - (now - charged) * drain
        if given <= 0 then
          return nil
        end
        local level = math.max(0, read(rows, at, limit, now) - given)
        return (write(rows, at, limit, level, nil, now))
      end,

      -- Resets (change 4) as another rate does: charges from before refund nothing any more.
      correct = function(_, at, limit, change, _, _, now)
        if at and change == 4 then
          local since = floor(now / 1048576) + 1
          return pack('<I7I7I7I5I5I4', limit[2], 0, now, limit[4], limit[3], since), 0
        end
      end,

      -- Most often no low changes, and the annex repeats another level and time.
      follow = function(rows, at, annex, limit, level, row)
        local newest = annex + byte(rows, annex)
        if at and newest > annex + 14 and unpack_from('<I7', rows, newest) <= level then
          local of_level, of_time = unpack_from('<I7I7', rows, annex + 7)
          local was, when, per = unpack_from('<I7I7I5', rows, at + 7)
          if of_level == was and of_time == when and per == limit[4] then
            return sub(row, 8, 21), annex + 7, annex + 21
          end
        end
        local marks = read_marks(rows, at, annex, limit, level)
        return pack_marks(marks, limit, unpack_from('<I7I7', row, 8))
      end,

      reserve = function(rows, at, annex, limit, before, _, amount, number, now)
        local level = min(before + amount, 9007199254740991)
        local row, till = write(rows, at, limit, level, nil, now)
        local marks = read_marks(rows, at, annex, limit, before)
        add_mark(marks, number, level)
        return row, till, pack_marks(marks, limit, level, now)
      end,

      adjust = function(rows, at, annex, limit, level, window, number, _, from, to, now)
        local marks, given = read_marks(rows, at, annex, limit, level), 0
        from, to = min(from * limit[4], 9007199254740991), min(to * limit[4], 9007199254740991)
        if to >= from then
          level = min(level + (to - from), 9007199254740991)
        elseif number then
          marks, given = give(marks, number, from - to)
          level = level - given
        end
        if not at and level == 0 then
          return level, window
        end
        local row, till = write(rows, at, limit, level, nil, now)
        return level, window, row, till, pack_marks(marks, limit, level, now)
      end,

      correct_annex = function(_, _, _, _, change)
        return change == 4 and '' or nil
      end,
    }
    return rare
  end

  local function unpack_limit(packed, at)
    local _, id, drain, per, size, behind = unpack_from('<BI7ddd', packed, at)
    local limit = { read, id + 28, drain, per, size, false, false, false, write, false, false,
      rare_functions, nil, usual }
    return limit, behind
  end

  return unpack_limit, matters
end
