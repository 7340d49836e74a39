-- The token bucket: how full it is, draining at a constant rate. Twin of
-- src/algorithm/token_bucket.rs, which says what everything means; change them together.

-- `level / from` in parts of `to`, rounded up, at most 2^53 - 1.
local function converted(level, from, to)
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

-- The level at `now` of the bucket at `at` in `rows`, in 1/per units; and true where the clock has
-- stepped back behind it.
local function bucket_level(rows, at, drain, per, now)
  if not at then
    return 0
  end
  local level, when, was_per = unpack_from('<I7I7I5', rows, at + 5)
  if was_per ~= per then
    level = converted(level, was_per, per)
  end
  if now > when then
    level = level - (now - when) * drain
    if level < 0 then
      return 0
    end
  end
  return level, now < when
end

-- The row of a bucket that holds `level`, and when it will have drained (us, not rounded).
local function bucket_row(id, level, drain, per, now)
  local time = level / drain
  local _, exponent = frexp(time)
  return pack('<I5I7I7I5B', id, level, now, per, exponent > 0 and exponent or 0), now + time
end
