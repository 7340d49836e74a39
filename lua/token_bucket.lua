-- The token bucket: a level that drains at a constant rate. Twin of src/algorithm/token_bucket.rs,
-- which documents the algorithm; change them together.
--
--   limit  <B I6 ddd>        flags, id, drain per us, per, size in 1/per units
--   body   <I7 I7 I5 I5 I4>  level in 1/per units, time of that level in us, per, drain per us,
--                            start of that rate in ticks

-- The clock tick of a row's rate (us).
local TICK_MICROS = 1048576

local DRAIN, PER = 3, 4

-- `level / from` in parts of `to`, rounded up, at most 2^53 - 1.
local function convert_level(level, from, to)
  if from == to or level == 0 then
    return level
  end
  local rest = level % from
  local whole = (level - rest) / from
  local product, part = rest * to
  if product < 9007199254740992 then
    part = ceil(product / from)
  else
    part = math.min(to, ceil(rest / from * to * (1 + 2 ^ -50)))
  end
  return math.min(whole * to + part, MAX_EXACT)
end

-- The level at `now`; and true if the clock has stepped back behind the row.
local function bucket_level(rows, at, limit, now)
  if not at then
    return 0
  end
  local level, when, per = unpack_from('<I7I7I5', rows, at + 7)
  if per ~= limit[PER] then
    level = convert_level(level, per, limit[PER])
  end
  if now > when then
    level = level - (now - when) * limit[DRAIN]
    if level < 0 then
      return 0
    end
  end
  return level, nil, now < when
end

local function bucket_row(limit, level, since, now)
  return pack('<I6BI7I7I5I5I4', limit[ID], 28, level, now, limit[PER], limit[DRAIN], since)
end

-- Draining begins anew with another rate; charges of the current tick may precede the change.
local function written_bucket(rows, at, limit, level, _, now)
  local since = floor(now / TICK_MICROS)
  if at then
    local per, drain, was_since = unpack_from('<I5I5I4', rows, at + 21)
    since = per == limit[PER] and drain == limit[DRAIN] and was_since or since + 1
  end
  return bucket_row(limit, level, since, now), now + level / limit[DRAIN]
end

ALGORITHMS[1] = {
  limit = function(packed, at)
    local limit = { unpack_from('<BI6ddd', packed, at) }
    at = limit[6]
    limit[6] = false
    return limit, at
  end,

  read = bucket_level,
  write = written_bucket,

  -- Refunds the part that time has not drained since the charge; nothing if another rate has been
  -- in force since.
  refund = function(rows, at, limit, amount, charged, now)
    local per, drain, since = unpack_from('<I5I5I4', rows, at + 21)
    if per ~= limit[PER] or drain ~= limit[DRAIN] or charged > now
        or floor(charged / TICK_MICROS) < since then
      return nil
    end
    local given = amount - (now - charged) * drain
    if given <= 0 then
      return nil
    end
    local level = math.max(0, bucket_level(rows, at, limit, now) - given)
    return (written_bucket(rows, at, limit, level, nil, now))
  end,

  -- Resets (change 4) as another rate does: charges from before refund nothing any more.
  correct = function(_, at, limit, change, _, _, now)
    if at and change == 4 then
      return bucket_row(limit, 0, floor(now / TICK_MICROS) + 1, now), 0
    end
  end,

  matters = function(rows, at, now)
    local level, when, _, drain = unpack_from('<I7I7I5I5', rows, at + 7)
    return level > math.max(0, now - when) * drain
  end,
}
