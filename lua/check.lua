-- Makes refunds, then judges checks in order, each all or nothing.
--
-- KEYS     the subjects of all checks, each once
-- ARGV[1]  the limits of all checks, each once, packed as lua/limits.lua defines
-- ARGV[2]  the checks: <B> number of charges, then for each <I2I2d> index of its key, index of its
--          limit (both from 1), and the amount to add to the counter; 0 only reads it, and the
--          amount of a charge that is made in any case is negative. A number of charges above 250
--          begins an operation on a reservation: see lua/reservations.lua
-- ARGV[3]  the refunds: for each <I2I2dd> index of its key, index of its limit, amount, and time of
--          the charge: in us, for a quota the name of its window
-- ARGV[4]  if there are operations on reservations, the number of KEYS that are subjects; the others
--          are the keys of reservations
-- Returns  a flat array: Redis' now in us; then for each check 1 allowed, 0 refused, 2 now lies
--          outside a quota's windows, 3 a day of usage has to be kept by lua/usage.lua first, 7 a
--          subject is new and its limit charges none that is, followed by the number of the charge,
--          or an error's text; and after 1 and 0 for each charge the level of its counter before,
--          followed by the name of the window if the algorithm has windows.
--
-- The clock is Redis', read once. Nothing is written before all checks are judged, so a script
-- that fails has written nothing; within the call, a check reads the writes of those before it.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rows_of = mget_all(KEYS)
local limits = unpack_limits(ARGV[1], now)
local checks = ARGV[2]
local reply, replied = { now }, 1

-- For each changed subject, by key: until when its rows matter.
local needed = {}

-- The current check: for each charge its key, limit, position of its row and window, the level to
-- write if the check is allowed, and the level to write in any case; false if there is nothing to
-- write. The latter is that of a charge made in any case, or of a bucket that the clock has stepped
-- back behind: it drains from now on, also if all checks are refused. Once a charge is written, the
-- rows before it stand in place of the position, '' if there were none.
local key_of, limit_of, place_of, window_of, after_of, forced_of = {}, {}, {}, {}, {}, {}
-- The positions of the annexes of these charges, nil if there are none.
local annex_of
local at

-- Judges the check at `at` and writes its charges. If they are to be `reserved`, returns instead
-- true if the check is allowed, and true if some rows are to be written although it is not.
local function judge(reserved)
  local count, from = byte(checks, at), at + 1
  local any_forced, rollover, forced_rollover = false, false, false
  local verdict_at = replied + 1
  local allowed = 1
  -- True if one of the alternatives has room; nil if there are no alternatives.
  local alternatives
  local annexed
  replied = verdict_at
  for i = 1, count do
    local key, index, amount
    key, index, amount, from = unpack_from('<I2I2d', checks, from)
    local always = amount < 0
    if always then
      amount = -amount
    end
    local limit, rows, place, annex = limits[index], rows_of[key]
    if rows then
      place, annex = find_row(rows, limit[HEAD])
      if annex then
        annexed = annexed or {}
        annexed[i] = annex
      end
    else
      if rows == false then
        -- MGET reads a key of another type as a missing one, which SET would replace.
        local read = redis.pcall('GET', KEYS[key])
        if read and string.find(read.err, 'WRONGTYPE', 1, true) then
          error('the key has another type')
        end
        rows_of[key] = nil
      end
      if limit[12] and amount > 0 then
        reply[verdict_at], reply[verdict_at + 1] = 7, i
        replied = verdict_at + 1
        return false
      end
    end
    local level, window, behind, earlier = limit[READ](rows, place, limit, now)
    if not level then
      reply[verdict_at] = 2
      replied = verdict_at
      return false
    end
    replied = replied + 1
    reply[replied] = level
    if window then
      replied = replied + 1
      reply[replied] = window
    end
    local after = level + amount
    if after > limit[SIZE] then
      after = always and math.min(after, 9007199254740991)
      if not (limit[SHADOW] or limit[ALTERNATIVE]) then
        allowed = 0
      end
      if limit[ALTERNATIVE] then
        alternatives = alternatives or limit[SHADOW]
      end
    elseif limit[ALTERNATIVE] then
      alternatives = true
    end
    after = amount > 0 and after
    key_of[i], limit_of[i] = key, limit
    place_of[i], window_of[i] = place or false, window or false
    after_of[i], forced_of[i] = after, always and after or behind and level
    any_forced = any_forced or behind or always
    if earlier and after and limit[DAILY] then
      rollover, forced_rollover = true, forced_rollover or always
    end
  end
  if alternatives == false then
    allowed = 0
  end
  if rollover and allowed == 1 or forced_rollover then
    reply[verdict_at] = 3
    replied = verdict_at
    return false
  end
  reply[verdict_at] = allowed
  allowed = allowed == 1
  if reserved or not (allowed or any_forced) then
    annex_of = annexed
    return allowed, any_forced
  end
  for i = 1, count do
    local after = allowed and after_of[i] or forced_of[i]
    if after then
      local key, limit = key_of[i], limit_of[i]
      local rows, place = rows_of[key], place_of[i]
      local row, till = limit[WRITE](rows, place, limit, after, window_of[i], now)
      local annex = annexed and annexed[i]
      if annex then
        local level, moved = verdict_at + 1
        for j = 1, i - 1 do
          level = level + (window_of[j] and 2 or 1)
        end
        local follow = functions_of_annexes().follow
        rows_of[key], moved = follow(rows, place, annex, limit, reply[level], row)
        for j = i + 1, moved ~= 0 and count or 0 do
          if key_of[j] == key then
            place_of[j] = place_of[j] and place_of[j] + (place_of[j] > annex and moved or 0)
            annexed[j] = annexed[j] and annexed[j] + (annexed[j] > annex and moved or 0)
          end
        end
      else
        rows_of[key] = put_row(rows, place, row)
      end
      place_of[i] = rows or ''
      local was = needed[key]
      if not was or was < till then
        needed[key] = till
      end
    end
  end
end

if #ARGV[3] > 0 then
  -- Writes the counter after a refund; a counter whose row is gone has nothing to refund.
  local function refund(key, limit, amount, charged)
    local rows = rows_of[key]
    if not rows then
      return
    end
    local place, annex = find_row(rows, limit[HEAD])
    if not place then
      return
    end
    local rare = ALGORITHMS[floor(limit[HEAD] / 256) % 32][5]()
    local row = rare.refund(rows, place, limit, amount, charged, now)
    if row then
      if annex then
        local level = limit[READ](put_row(rows, place, row), place, limit, now)
        rows_of[key] = functions_of_annexes().follow(rows, place, annex, limit, level, row)
      else
        rows_of[key] = put_row(rows, place, row)
      end
      needed[key] = needed[key] or 0
    end
  end

  local refunds, from = ARGV[3], 1
  while from <= #refunds do
    local key, index, amount, charged
    key, index, amount, charged, from = unpack_from('<I2I2dd', refunds, from)
    -- A damaged row refunds nothing; the checks that read it report the error.
    pcall(refund, key, limits[index], amount, charged)
  end
end
