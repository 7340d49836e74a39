-- The token bucket: how full it is, draining at a constant rate. Twin of
-- src/algorithm/token_bucket.rs, which says what everything means; change them together.

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
  return math.min(whole * to + part, 9007199254740991)
end

-- The level at `now` of the bucket at `offset` in `rows`, in 1/per units; and true where the clock has
-- stepped back behind it.
local function bucket_level(rows, offset, drain, per, now)
  if not offset then
    return 0
  end
  local level, when, was_per = unpack_from('<I7I7I5', rows, offset + 5)
  if was_per ~= per then
    level = convert_level(level, was_per, per)
  end
  if now > when then
    level = level - (now - when) * drain
    if level < 0 then
      return 0
    end
  end
  return level, now < when
end

-- In which a row says since when its rate has been what it is (us).
local TICK_MICROS = 1048576

-- The row to write over the one at `offset`, if there is one, for a bucket that holds `level`; and when
-- it will have drained (us, not rounded).
local function bucket_row(rows, offset, id, level, drain, per, now)
  local since = floor(now / TICK_MICROS)
  if offset then
    local was_per, was_drain, was_since = unpack_from('<I5I5I4', rows, offset + 19)
    since = was_per == per and was_drain == drain and was_since or since + 1
  end
  return pack('<I5I7I7I5I5I4', id, level, now, per, drain, since), now + level / drain
end

-- What the bucket at `offset` gives back of `amount` that was charged at `charged` and not used: what
-- time has not drained since. Nothing where another rate has been in force since then.
local function bucket_refund(rows, offset, amount, charged, drain, per, now)
  local was_per, was_drain, since = unpack_from('<I5I5I4', rows, offset + 19)
  if was_per ~= per or was_drain ~= drain or charged > now or floor(charged / TICK_MICROS) < since then
    return 0
  end
  return math.max(0, amount - (now - charged) * drain)
end
