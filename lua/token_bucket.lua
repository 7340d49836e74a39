-- The token bucket: a level that drains at a constant rate. Twin of src/algorithm/token_bucket.rs,
-- which documents the algorithm; change them together.
--
--   limit  <B I7 ddd>        flags, id, drain per us, per, size in 1/per units
--   slots  3 drain, 4 per
--   body   <I7 I7 I5 I5 I4>  level in 1/per units, time of that level in us, per, drain per us,
--                            start of that rate in ticks
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
  }
end

ALGORITHMS[1] = { unpack_bucket, bucket_level, write_bucket, bucket_matters, rare_of_buckets }
