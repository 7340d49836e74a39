-- Gives back what was charged and not used; then judges checks, each all or nothing, in order.
--
-- KEYS     the subjects of all checks, each once
-- ARGV[1]  the limits of all checks, each once, packed as lua/limits.lua says
-- ARGV[2]  the checks: <B> number of charges, then for each <I2I2d> index of its key, index of its
--          limit (both from 1), and what it adds to the counter; 0 only looks
-- ARGV[3]  what to give back: for each <I2I2dd> index of its key, index of its limit, how much of the
--          counter, and when that was charged: in us, for a quota the name of its window
-- Returns  a flat array: Redis' now in us; then for each check 1 allowed, 0 refused, 2 now lies
--          outside a quota's windows, 3 it would write over a day that lua/usage.lua has to keep
--          first, or an error's text; and after 1 and 0 for each charge what its counter held
--          before, followed for a quota by the name of the window that counts.
--
-- The clock is Redis', read once. Nothing is written before all checks are judged, so a script
-- that fails has written nothing; within the call, a check sees what those before it wrote.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rows_of = mget_all(KEYS)
local limits = unpack_limits(ARGV[1], now)
local checks = ARGV[2]
local reply, replied = { now }, 1

-- The check at hand: for each charge its key, limit, place in the rows, and the counter to write
-- where the check is allowed, or false. Of a quota the window. Of a bucket that the clock has
-- stepped back behind, the level to write in any case: time runs on from now, also where all
-- checks are refused.
local key_of, limit_of, place_of, after_of, window_of, resync_level_of = {}, {}, {}, {}, {}, {}
local check_offset

-- Judges the check at `check_offset`: whether its charges are to be written, and whether any bucket is
-- ahead of the clock.
local function judge()
  local count, from = byte(checks, check_offset), check_offset + 1
  local any_resync, any_rollover = false, false
  local verdict_at = replied + 1
  local allowed = 1
  -- Of the alternatives whether one has room; nil where there are none.
  local alternatives
  replied = verdict_at
  for i = 1, count do
    local key, index, amount
    key, index, amount, from = unpack_from('<I2I2d', checks, from)
    local limit, rows = limits[index], rows_of[key]
    local place = rows and find_row(rows, limit[ID])
    local level, stepped_back, rollover
    if limit[QUOTA] then
      local window = limit[WINDOW]
      if not window then
        reply[verdict_at] = 2
        replied = verdict_at
        return false
      end
      level, window, rollover = current_count(rows, place, window)
      reply[replied + 1], reply[replied + 2] = level, window
      replied = replied + 2
      window_of[i] = window
    else
      level, stepped_back = bucket_level(rows, place, limit[DRAIN], limit[PER], now)
      replied = replied + 1
      reply[replied] = level
    end
    local after = level + amount
    if after > limit[SIZE] then
      after = false
      if not (limit[SHADOW] or limit[ALTERNATIVE]) then
        allowed = 0
      end
    end
    if limit[ALTERNATIVE] then
      alternatives = alternatives or after ~= false or limit[SHADOW]
    end
    key_of[i], limit_of[i], place_of[i] = key, limit, place
    after_of[i] = amount > 0 and after
    resync_level_of[i] = stepped_back and level
    any_resync = any_resync or stepped_back
    any_rollover = any_rollover or rollover and limit[TRACKS_DAYS] and after_of[i]
  end
  if alternatives == false then
    allowed = 0
  end
  if any_rollover and allowed == 1 then
    reply[verdict_at] = 3
    replied = verdict_at
    return false
  end
  reply[verdict_at] = allowed
  return allowed == 1, any_resync
end

-- Until when each changed subject's rows matter, by key.
local needed = {}

local function write(count, allowed)
  for i = 1, count do
    local after = allowed and after_of[i] or resync_level_of[i]
    if after then
      local key, limit = key_of[i], limit_of[i]
      local row, till
      if limit[QUOTA] then
        row, till = quota_row(limit[ID], after, window_of[i]), limit[ENDS]
      else
        row, till = bucket_row(rows_of[key], place_of[i], limit[ID], after, limit[DRAIN], limit[PER], now)
      end
      rows_of[key] = put_row(rows_of[key], place_of[i], row)
      local was = needed[key]
      if not was or was < till then
        needed[key] = till
      end
    end
  end
end

-- Writes the counter that gives something back; one whose row is gone has nothing to give.
local function refund(key, limit, amount, charged)
  local rows = rows_of[key]
  local place = rows and find_row(rows, limit[ID])
  if not place then
    return
  end
  local row
  if limit[QUOTA] then
    local left, window = after_refund(rows, place, amount, charged)
    row = left and quota_row(limit[ID], left, window)
  else
    local drain, per = limit[DRAIN], limit[PER]
    local given = bucket_refund(rows, place, amount, charged, drain, per, now)
    local level = given > 0 and math.max(0, bucket_level(rows, place, drain, per, now) - given)
    row = level and bucket_row(rows, place, limit[ID], level, drain, per, now)
  end
  if row then
    rows_of[key] = put_row(rows, place, row)
    needed[key] = needed[key] or 0
  end
end

do
  local refunds, from = ARGV[3], 1
  while from <= #refunds do
    local key, index, amount, charged
    key, index, amount, charged, from = unpack_from('<I2I2dd', refunds, from)
    -- A row that cannot be read gives nothing back; the checks that meet it say so.
    pcall(refund, key, limits[index], amount, charged)
  end
end

check_offset = 1
local len = #checks
while check_offset <= len do
  local before, count = replied, byte(checks, check_offset)
  local ok, allowed, any_resync = pcall(judge)
  if not ok then
    replied = before + 1
    reply[replied] = tostring(allowed)
  elseif allowed or any_resync then
    write(count, allowed)
  end
  check_offset = check_offset + 1 + 12 * count
end

-- A check that failed may have left readings beyond the reply's end.
for i = #reply, replied + 1, -1 do
  reply[i] = nil
end

for key, till in pairs(needed) do
  store_rows(KEYS[key], rows_of[key], till, now)
end
return reply
