-- The token bucket: a level that drains at a constant rate. Twin of src/algorithm/token_bucket.rs,
-- which documents the algorithm; change them together.
--
--   limit  <B I7 ddd>        flags, id, drain per us, per, size in 1/per units
--   slots  3 drain, 4 per
--   body   <I7 I7 I5 I5 I4>  level in 1/per units, time of that level in us, per, drain per us,
--                            start of that rate in ticks
--   annex  <I7 I7> and up to 8 times <I6 I7>
--                            level and time of the row with which it was written, then the marks:
--                            number of a reservation, and the lowest level since its charge. Twin
--                            of src/algorithm/marks.rs, which says why.
--
-- Slots and formats are literals, since every captured local costs time in each call.

-- The clock tick of a row's rate (us).
local TICK_MICROS = 1048576

local function unpack_bucket(packed, at)
  local limit = { unpack_from('<BI7ddd', packed, at) }
  limit[HEAD] = limit[HEAD] + 28
  return limit, limit[6]
end

-- The level at `now`; and true if the clock has stepped back behind the row.
local function bucket_level(rows, at, limit, now)
  if not at then
    return 0
  end
  local level, when, from = unpack_from('<I7I7I5', rows, at + 7)
  local to = limit[4]
  if from ~= to then
    find_row(rows, 0)
    if from == 0 then
      error('a bucket has no rate')
    end
    -- `level / from` in parts of `to`, rounded up, at most 2^53 - 1.
    local rest = level % from
    local product, part = rest * to
    if product <= 9007199254740991 then
      part = ceil(product / from)
    else
      part = math.min(to, ceil(rest / from * to * (1 + 2 ^ -50)))
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
local function write_bucket(rows, at, limit, level, _, now)
  local since, drain, per = floor(now / TICK_MICROS), limit[3], limit[4]
  if at then
    local was_per, was_drain, was_since = unpack_from('<I5I5I4', rows, at + 21)
    since = was_per == per and was_drain == drain and was_since or since + 1
  end
  return pack('<I7I7I7I5I5I4', limit[HEAD], level, now, per, drain, since), now + level / drain
end

local function bucket_matters(rows, at, now)
  local level, when, _, drain = unpack_from('<I7I7I5I5', rows, at + 7)
  return level > math.max(0, now - when) * drain
end

local function rare_of_buckets()
  local floor, sub, pack, unpack_from = math.floor, string.sub, struct.pack, struct.unpack

  -- `low / from` in parts of `to`, rounded down.
  local function convert_low(low, from, to)
    if from == to then
      return low
    end
    local rest = low % from
    local product, part = rest * to
    if product <= 9007199254740991 then
      part = floor(product / from)
    else
      part = floor(rest / from * to * (1 - 2 ^ -50))
    end
    return math.min((low - rest) / from * to + part, 9007199254740991)
  end

  -- The marks, numbers and lows in turn, once the level has been as low as `level`: no low is above
  -- it or a newer one, of equal lows the oldest mark stays, and lows of 0 are dropped.
  local function cut(marks, level)
    local count, low, is_ordered = #marks, level, true
    for i = count, 2, -2 do
      if marks[i] > low then
        marks[i], is_ordered = low, false
      elseif marks[i] == low and i < count then
        is_ordered = false
      end
      low = marks[i]
    end
    if is_ordered and low > 0 then
      return marks
    end
    local kept, kept_count = {}, 0
    low = 0
    for i = 2, count, 2 do
      if marks[i] > low then
        low = marks[i]
        kept[kept_count + 1], kept[kept_count + 2] = marks[i - 1], low
        kept_count = kept_count + 2
      end
    end
    return kept
  end

  -- True if the annex belongs to the row. A row that does not fit to its annex was written by a
  -- release that knows no marks.
  local function fits(rows, at, annex)
    return at and #annex > 14 and sub(annex, 1, 14) == sub(rows, at + 7, at + 20)
  end

  -- The annex once the level has been as low as `level`, if that lowers no more than the newest
  -- low: the usual case, in which most of the annex is copied. Otherwise nil.
  local function current(rows, at, annex, limit, level)
    if not fits(rows, at, annex) or unpack_from('<I5', rows, at + 21) ~= limit[4] then
      return nil
    end
    local size = #annex
    if level >= unpack_from('<I7', annex, size - 6) then
      return annex
    end
    if level > (size > 27 and unpack_from('<I7', annex, size - 19) or 0) then
      return sub(annex, 1, size - 7) .. pack('<I7', level)
    end
  end

  -- The marks, numbers and lows in turn, once the level has been as low as `level`.
  local function read_marks(rows, at, annex, limit, level)
    if not fits(rows, at, annex) then
      return {}
    end
    local marks = { unpack_from('<' .. string.rep('I6I7', floor((#annex - 14) / 13)), annex, 15) }
    marks[#marks] = nil
    local from = unpack_from('<I5', rows, at + 21)
    if from ~= limit[4] then
      for i = 2, #marks, 2 do
        marks[i] = convert_low(marks[i], from, limit[4])
      end
    end
    return cut(marks, level)
  end

  -- The annex of `row` with these marks.
  local function pack_marks(marks, row)
    if #marks == 0 then
      return ''
    end
    return sub(row, 8, 21) .. pack('<' .. string.rep('I6I7', #marks / 2), unpack(marks))
  end

  -- Adds a mark. Marks of later numbers belong to an earlier life of the subject's numbers. Of nine
  -- marks the one goes whose loss costs least, never the oldest, and of equal losses the oldest.
  local function add_mark(marks, number, level)
    local count = #marks
    while count > 0 and marks[count - 1] >= number do
      marks[count - 1], marks[count] = nil, nil
      count = count - 2
    end
    if count == 0 or marks[count] < level then
      marks[count + 1], marks[count + 2] = number, level
      count = count + 2
    end
    if count > 16 then
      local least, dropped
      marks[count + 1] = number + 1
      for i = 3, count, 2 do
        local loss = (marks[i + 1] - marks[i - 1]) * (marks[i + 2] - marks[i])
        if not least or loss < least then
          least, dropped = loss, i
        end
      end
      for i = dropped, count - 2 do
        marks[i] = marks[i + 2]
      end
      marks[count - 1], marks[count], marks[count + 1] = nil, nil, nil
    end
  end

  -- The eight marks that `add_mark` leaves of those of an annex and a ninth: its rule without
  -- tables. This and `lower` are part of what brought the ratio in docs/scaling.md from 17 to 8.
  local function without_least(annex, n9, l9, mark)
    local _, l1, n2, l2, n3, l3, n4, l4, n5, l5, n6, l6, n7, l7, n8, l8 =
      unpack_from('<I6I7I6I7I6I7I6I7I6I7I6I7I6I7I6I7', annex, 15)
    local least, dropped = (l2 - l1) * (n3 - n2), 2
    local function weigh(loss, place)
      if loss < least then
        least, dropped = loss, place
      end
    end
    weigh((l3 - l2) * (n4 - n3), 3)
    weigh((l4 - l3) * (n5 - n4), 4)
    weigh((l5 - l4) * (n6 - n5), 5)
    weigh((l6 - l5) * (n7 - n6), 6)
    weigh((l7 - l6) * (n8 - n7), 7)
    weigh((l8 - l7) * (n9 - n8), 8)
    if l9 - l8 < least then
      return annex, ''
    end
    return sub(annex, 1, 13 * dropped + 1) .. sub(annex, 13 * dropped + 15), mark
  end

  -- Gives back up to `most` units to a reservation, from its mark or the next older one. Returns
  -- the marks before its own and those from it on, lower than before, and the level; nil for the
  -- marks unless their lows still rise.
  local function lower(annex, number, most, level)
    local place = #annex - 12
    local other, low = unpack_from('<I6I7', annex, place)
    while other > number and place > 15 do
      place = place - 13
      other, low = unpack_from('<I6I7', annex, place)
    end
    local given = math.min(most, low)
    if other > number or given == low
        or place > 15 and unpack_from('<I7', annex, place - 7) >= low - given then
      return nil, nil, level
    end
    local marks = { unpack_from('<' .. string.rep('I6I7', (#annex + 1 - place) / 13), annex, place) }
    marks[#marks] = nil
    for i = 2, #marks, 2 do
      marks[i] = marks[i] - given
    end
    return sub(annex, 15, place - 1), pack('<' .. string.rep('I6I7', #marks / 2), unpack(marks)),
      level - given
  end

  local rare = {
    -- Refunds the part that time has not drained since the charge; nothing if another rate has been
    -- in force since.
    refund = function(rows, at, limit, amount, charged, now)
      local per, drain, since = unpack_from('<I5I5I4', rows, at + 21)
      if per ~= limit[4] or drain ~= limit[3] or charged > now
          or floor(charged / TICK_MICROS) < since then
        return nil
      end
      local given = amount - (now - charged) * drain
      if given <= 0 then
        return nil
      end
      local level = math.max(0, bucket_level(rows, at, limit, now) - given)
      return (write_bucket(rows, at, limit, level, nil, now))
    end,

    -- Resets (change 4) as another rate does: charges from before refund nothing any more.
    correct = function(_, at, limit, change, _, _, now)
      if at and change == 4 then
        local since = floor(now / TICK_MICROS) + 1
        return pack('<I7I7I7I5I5I4', limit[HEAD], 0, now, limit[4], limit[3], since), 0
      end
    end,

    follow = function(rows, at, annex, limit, level, row)
      level = math.min(level, (unpack_from('<I7', row, 8)))
      local followed = current(rows, at, annex, limit, level)
      if followed then
        return sub(row, 8, 21) .. sub(followed, 15)
      end
      return pack_marks(read_marks(rows, at, annex, limit, level), row)
    end,

    reserve = function(rows, at, annex, limit, before, _, amount, number, now)
      local level = math.min(before + amount, 9007199254740991)
      local row, till = write_bucket(rows, at, limit, level, nil, now)
      if annex == '' then
        return row, sub(row, 8, 21) .. pack('<I6I7', number, level), till
      end
      local kept = current(rows, at, annex, limit, before)
      if kept then
        local newest, low = unpack_from('<I6I7', kept, #kept - 12)
        if newest < number and low < level then
          local mark = pack('<I6I7', number, level)
          if #kept > 14 + 7 * 13 then
            kept, mark = without_least(kept, number, level, mark)
          end
          return row, sub(row, 8, 21) .. sub(kept, 15) .. mark, till
        end
      end
      local marks = read_marks(rows, at, annex, limit, before)
      add_mark(marks, number, level)
      return row, pack_marks(marks, row), till
    end,

    adjust = function(rows, at, annex, limit, level, window, number, _, from, to, now)
      from, to = math.min(from * limit[4], 9007199254740991), math.min(to * limit[4], 9007199254740991)
      local head, tail
      local kept = to < from and number and current(rows, at, annex, limit, level)
      if kept then
        head, tail, level = lower(kept, number, from - to, level)
      end
      local marks = not tail and read_marks(rows, at, annex, limit, level)
      if to >= from then
        level = math.min(level + (to - from), 9007199254740991)
      elseif number and marks then
        local mark = #marks
        while mark > 0 and marks[mark - 1] > number do
          mark = mark - 2
        end
        if mark > 0 then
          local given = math.min(from - to, marks[mark])
          level = level - given
          for i = mark, #marks, 2 do
            marks[i] = marks[i] - given
          end
          marks = cut(marks, level)
        end
      end
      if not at and level == 0 then
        return level, window
      end
      local row, till = write_bucket(rows, at, limit, level, nil, now)
      return level, window, row, till, tail and sub(row, 8, 21) .. head .. tail or pack_marks(marks, row)
    end,

    correct_annex = function(change)
      return change == 4 and '' or nil
    end,
  }
  ALGORITHMS[1][5] = function() return rare end
  return rare
end

ALGORITHMS[1] = { unpack_bucket, bucket_level, write_bucket, bucket_matters, rare_of_buckets, 28 }
