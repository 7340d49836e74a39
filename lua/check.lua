-- Makes refunds, then judges checks in order, each all or nothing.
--
-- KEYS     the subjects of all checks, each once
-- ARGV[1]  the limits of all checks, each once, packed as lua/limits.lua defines
-- ARGV[2]  the checks: <B> number of charges, then for each <I2I2d> index of its key, index of its
--          limit (both from 1), and the amount to add to the counter; 0 only reads it, and the
--          amount of a charge that is made in any case is negative. A number of charges above 250
--          begins an operation on a reservation: see lua/reservations.lua; 253 before a check or
--          before a reserve makes it a dry run: the reply is the same, and nothing is written
-- ARGV[3]  the refunds: for each <I2I2dd> index of its key, index of its limit, amount, and time of
--          the charge: in us, for a quota the name of its window
-- ARGV[4]  if there are operations on reservations, the number of KEYS that are subjects; the
-- others
--          are the keys of reservations
-- Returns  a flat array: Redis' now in us; then for each check 1 allowed, 0 refused, 2 now lies
--          outside a quota's windows, 3 a day of usage has to be kept by lua/usage.lua first, 7 a
--          subject is new and its limit charges none that is, followed by the number of the charge,
--          or an error's text; and after 1 and 0 for each charge the level of its counter before,
--          followed by the name of the window if the algorithm has windows.
--
-- The clock is Redis', read once. Nothing is written before all checks are judged, so a script
-- that fails has written nothing; within the call, a check reads the writes of those before it.

local reply = { now, false, false }
-- For each changed subject, by key: until when its rows matter.
local needed = {}

-- The check that is judged: where it begins, the length of the reply before it, and its charges;
-- those of a check with one that is not reserved are not kept. A charge has its `key`, `limit`,
-- `window`, `place` of the row and `annex`, where it is; the level to write if the check is allowed
-- (`after`), and the level to write in any case (`forced`), false if there is nothing to write. The
-- latter is that of a charge made in any case, or of a bucket that the clock has stepped back
-- behind: it drains from now on, also if all checks are refused. Once a charge is written, `before`
-- are the rows before it, '' if there were none.
local current = { false, false, at = 1, replied = 1 }

-- Judges the check that `current` stands at and those behind it, up to an operation on a
-- reservation, and writes their charges. If it is to be `reserved`, judges only that check, and
-- returns true if it is allowed, true if some rows are to be written although it is not, and the
-- length of the reply. A dry run is judged like that, and needs no day to be kept first. All is
-- passed, since each captured local costs time in each call.
local function judge(checks, limits, rows_of, needed, reply, now, current, reserved)
  local at, replied = current.at, current.replied
  local len = #checks
  while at <= len do
    if not reserved then
      at, replied = judge_usual(checks, at, limits, rows_of, needed, reply, replied, now)
    end
    current.at, current.replied = at, replied
    if at > len then
      return
    end
    local count, from = byte(checks, at), at + 1
    local behind_check = from + 12 * count
    if count > 250 then
      return
    end
    local keeps = reserved or count > 1
    local any_forced, rollover, forced_rollover = false, false, false
    local verdict_at, verdict = replied + 1, 1
    -- True if one of the alternatives has room; nil if there are no alternatives.
    local alternatives
    local key, index, amount, limit, place, annex, window, after, forced
    reply[verdict_at], replied = false, verdict_at
    for i = 1, count do
      key, index, amount, from = unpack_from('<I2I2d', checks, from)
      local always = amount < 0
      if always then
        amount = -amount
      end
      local rows = rows_of[key]
      limit = limits[index]
      if rows then
        place, annex = find_row(rows, limit[2])
      else
        place, annex = nil, nil
        if rows == false then
          -- MGET reads a key of another type as a missing one, which SET would replace.
          local read = redis.pcall('GET', KEYS[key])
          if read and string.find(read.err, 'WRONGTYPE', 1, true) then
            error('the key has another type')
          end
          rows_of[key] = nil
        end
        if limit[13] and amount > 0 then
          reply[verdict_at + 1], verdict, replied = i, 7, verdict_at + 1
          break
        end
      end
      local level, behind, earlier
      level, window, behind, earlier = limit[1](rows, place, limit, now)
      if not level then
        verdict, replied = 2, verdict_at
        break
      end
      replied = replied + 1
      reply[replied] = level
      if window then
        replied = replied + 1
        reply[replied] = window
      end
      after = level + amount
      if after > limit[5] then
        after = always and math.min(after, 9007199254740991)
        if limit[7] then
          alternatives = alternatives or limit[6]
        elseif not limit[6] then
          verdict = 0
        end
      elseif limit[7] then
        alternatives = true
      end
      after = amount > 0 and after
      forced = always and after or behind and level
      any_forced = any_forced or forced
      if earlier and after and limit[8] then
        rollover, forced_rollover = true, forced_rollover or always
      end
      if keeps then
        local charge = current[i]
        if charge then
          charge.key, charge.limit, charge.place, charge.annex = key, limit, place, annex
          charge.window, charge.after, charge.forced, charge.before = window, after, forced, false
        else
          current[i] = { key = key, limit = limit, place = place, annex = annex, window = window,
            after = after, forced = forced, before = false }
        end
      end
    end
    if alternatives == false and verdict < 2 then
      verdict = 0
    end
    if (rollover and verdict == 1 or forced_rollover) and verdict < 2 and not current.is_dry then
      verdict, replied = 3, verdict_at
    end
    reply[verdict_at] = verdict
    if reserved then
      return verdict == 1, verdict == 0 and any_forced, replied
    end
    for i = 1, (verdict == 1 or verdict == 0 and any_forced) and count or 0 do
      local charge = keeps and current[i]
      if charge then
        key, limit, place, annex = charge.key, charge.limit, charge.place, charge.annex
        window, after, forced = charge.window, charge.after, charge.forced
      end
      after = verdict == 1 and after or forced
      if after then
        local rows = rows_of[key]
        local row, till = limit[9](rows, place, limit, after, window, now)
        if annex then
          local level, moved = verdict_at + 1
          for j = 1, i - 1 do
            level = level + (current[j].window and 2 or 1)
          end
          current.annexes = current.annexes or functions_of_annexes()
          rows_of[key], moved =
            current.annexes.follow(rows, place, annex, limit, reply[level], row)
          for j = i + 1, moved ~= 0 and count or 0 do
            local other = current[j]
            if other.key == key then
              other.place = other.place and other.place + (other.place > annex and moved or 0)
              other.annex = other.annex and other.annex + (other.annex > annex and moved or 0)
            end
          end
        else
          rows_of[key] = put_row(rows, place, row)
        end
        if charge then
          charge.before = rows or ''
        end
        local was = needed[key]
        if not was or was < till then
          needed[key] = till
        end
      end
    end
    at = behind_check
  end
  current.at, current.replied = at, replied
end

if ARGV[3] then
  -- Writes the counter after a refund; a counter whose row is gone has nothing to refund.
  local function refund(key, limit, amount, charged)
    local rows = rows_of[key]
    if not rows then
      return
    end
    local place, annex = find_row(rows, limit[2])
    if not place then
      return
    end
    local rare = limit[12]()
    local row = rare.refund(rows, place, limit, amount, charged, now)
    if row then
      if annex then
        local level = limit[1](put_row(rows, place, row), place, limit, now)
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
