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

  -- The marks with lows that rise: no older low is above a newer one, of equal lows the oldest mark
  -- stays, and lows of 0 are dropped.
  local function in_order(numbers, lows)
    for i = #lows - 1, 1, -1 do
      lows[i] = math.min(lows[i], lows[i + 1])
    end
    local kept_numbers, kept_lows, low = {}, {}, 0
    for i = 1, #lows do
      if lows[i] > low then
        low = lows[i]
        kept_numbers[#kept_numbers + 1], kept_lows[#kept_lows + 1] = numbers[i], low
      end
    end
    return kept_numbers, kept_lows
  end

  -- The numbers and lows of the marks once the level has been as low as `level`. A row that does
  -- not fit to its annex was written by a release that knows no marks: then there are none.
  local function read_marks(rows, at, annex, limit, level)
    local numbers, lows = {}, {}
    if at and #annex > 14 then
      local row_level, row_time, from = unpack_from('<I7I7I5', rows, at + 7)
      local annex_level, annex_time = unpack_from('<I7I7', annex)
      if row_level == annex_level and row_time == annex_time then
        for place = 15, #annex - 12, 13 do
          local number, low = unpack_from('<I6I7', annex, place)
          numbers[#numbers + 1] = number
          lows[#lows + 1] = math.min(convert_low(low, from, limit[4]), level)
        end
      end
    end
    return in_order(numbers, lows)
  end

  -- The annex of `row` with these marks.
  local function pack_marks(numbers, lows, row)
    if #numbers == 0 then
      return ''
    end
    local parts = { string.sub(row, 8, 21) }
    for i = 1, #numbers do
      parts[#parts + 1] = pack('<I6I7', numbers[i], lows[i])
    end
    return table.concat(parts)
  end

  -- Adds a mark. Marks of later numbers belong to an earlier life of the subject's numbers. Of nine
  -- marks the one goes whose loss costs least, never the oldest, and of equal losses the oldest.
  local function add_mark(numbers, lows, number, level)
    while numbers[#numbers] and numbers[#numbers] >= number do
      numbers[#numbers], lows[#lows] = nil, nil
    end
    local count = #numbers
    if count == 0 or lows[count] < level then
      count = count + 1
      numbers[count], lows[count] = number, level
    end
    if count > 8 then
      local least, dropped
      for i = 2, count do
        local loss = (lows[i] - lows[i - 1]) * ((numbers[i + 1] or numbers[i] + 1) - numbers[i])
        if not least or loss < least then
          least, dropped = loss, i
        end
      end
      table.remove(numbers, dropped)
      table.remove(lows, dropped)
    end
  end

  return {
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
      local numbers, lows = read_marks(rows, at, annex, limit, level)
      return pack_marks(numbers, lows, row)
    end,

    reserve = function(rows, at, annex, limit, level, _, amount, number, now)
      local numbers, lows = read_marks(rows, at, annex, limit, level)
      level = math.min(level + amount, 9007199254740991)
      add_mark(numbers, lows, number, level)
      local row, till = write_bucket(rows, at, limit, level, nil, now)
      return row, pack_marks(numbers, lows, row), till
    end,

    adjust = function(rows, at, annex, limit, number, window, from, to, now)
      local level = bucket_level(rows, at, limit, now)
      local numbers, lows = read_marks(rows, at, annex, limit, level)
      from, to = math.min(from * limit[4], 9007199254740991), math.min(to * limit[4], 9007199254740991)
      if to >= from then
        level = math.min(level + (to - from), 9007199254740991)
      elseif number then
        local mark = #numbers
        while mark > 0 and numbers[mark] > number do
          mark = mark - 1
        end
        if mark > 0 then
          local given = math.min(from - to, lows[mark])
          level = level - given
          for i = mark, #lows do
            lows[i] = lows[i] - given
          end
          numbers, lows = in_order(numbers, lows)
        end
      end
      if not at and level == 0 then
        return level, window
      end
      local row, till = write_bucket(rows, at, limit, level, nil, now)
      return level, window, row, till, pack_marks(numbers, lows, row)
    end,

    correct_annex = function(change)
      return change == 4 and '' or nil
    end,
  }
end

ALGORITHMS[1] = { unpack_bucket, bucket_level, write_bucket, bucket_matters, rare_of_buckets }
