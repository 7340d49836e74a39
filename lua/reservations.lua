-- Opens reservations and adjusts their charges: operations among the checks of lua/check.lua, which
-- precedes this file. Twin of src/judge/reservation.rs; change them together.
--
--   operation  <B I4>   251 reserves, 252 adjusts; length of the rest
--   reserve    <I2 d c8 I2>  index of the reservation's key (from 1, behind those of subjects), ttl
--                       in us, digest of the check, length of the terms; then the terms, whose first
--                       8 bytes are random, and the check
--   adjust     <I2 d I2>  index of the key, 0 to close the reservation or the ttl from now to extend
--                       it, length of the terms; then the terms; <B> number of charges, and for each
--                       <I2I2d> index of its key, index of its limit (0 if the limit no longer
--                       exists), and the units it comes to; -1 - units if it comes to at least those
--
-- Replies to reserve: as to a check; or 4 the same check is open under this name, then the counters'
-- levels and windows, and the terms; 5 another check is open, or this one's ttl is over.
-- Replies to adjust: 0 there is no such reservation; 1 done, 6 done after the ttl; 2 and 3 as to a
-- check; and after 1 and 6 for each charge the units that were charged before (-1 if it was not
-- made), then level and window of its counter unless the limit no longer exists.
--
-- A reservation is one string: <B c8 I7 B> format (1), digest of the check, end of its ttl in us,
-- number of its lives; for each <I6 c8> number and birth tag of its subject's numbers; <B> number of
-- charges, for each <B i7 I5> its life, units (-1 if not made) and window (0 without); the terms. It
-- expires 10 minutes after its ttl.

local operate
-- For each changed reservation, by key: its string, false to delete it; and its lifetime in ms.
local kept_text, kept_for

if ARGV[4] then
  local subjects = tonumber(ARGV[4])
  local RESERVE, LATE, MAX_EXACT = 251, 600 * 1000000, 9007199254740991
  local annexes = functions_of_annexes()
  kept_text, kept_for = {}, {}

  -- The rows and deadlines that the operation changes: copied once it has succeeded.
  local changed, deadlines

  local function rows_at(key)
    local rows = changed[key]
    if rows == nil then
      rows = rows_of[key]
    end
    return rows
  end

  local function change(key, rows, till)
    changed[key] = rows
    deadlines[key] = math.max(deadlines[key] or 0, till)
  end

  local function rare_of(limit)
    return ALGORITHMS[floor(limit[HEAD] / 256) % 32][5]()
  end

  local function add_reply(value)
    replied = replied + 1
    reply[replied] = value
  end

  -- The reservation under a key, unless it can no longer be settled.
  local function kept_under(key)
    local text = rows_of[key]
    if not text then
      return nil
    end
    local format, check, ends, lives, from = unpack_from('<Bc8I7B', text)
    if format ~= 1 then
      error('this reservation has format ' .. format .. ', and this version knows 1')
    end
    if ends + LATE < now then
      return nil
    end
    local kept = { check = check, ends = ends, lives = {}, charges = {} }
    for i = 1, lives do
      local number, birth
      number, birth, from = unpack_from('<I6c8', text, from)
      kept.lives[i] = { number = number, birth = birth }
    end
    local count = byte(text, from)
    from = from + 1
    for i = 1, count do
      local life, units, window
      life, units, window, from = unpack_from('<Bi7I5', text, from)
      kept.charges[i] = { life = life, units = units, window = window }
    end
    kept.terms = sub(text, from)
    return kept
  end

  local function keep(key, kept, ttl)
    local parts = { pack('<Bc8I7B', 1, kept.check, kept.ends, #kept.lives) }
    for _, life in ipairs(kept.lives) do
      parts[#parts + 1] = pack('<I6c8', life.number, life.birth)
    end
    parts[#parts + 1] = string.char(#kept.charges)
    for _, charge in ipairs(kept.charges) do
      parts[#parts + 1] = pack('<Bi7I5', charge.life, charge.units, charge.window)
    end
    parts[#parts + 1] = kept.terms
    rows_of[key] = table.concat(parts)
    -- A millisecond more: Redis counts from the beginning of the current one.
    kept_text[key], kept_for[key] = rows_of[key], ceil((ttl + LATE) / 1000) + 1
  end

  -- Stores the numbers of a subject so that they matter until a reservation can no longer be settled.
  local function write_numbers(key, number, birth, till, ends)
    till = math.max(till, ceil(math.min(ends + LATE, MAX_EXACT) / 1000000) * 1000000)
    local rows = rows_at(key)
    local place = rows and find_row(rows, 1811)
    local row = pack('<I7I6c8I5', 1811, number, birth, till / 1000000)
    change(key, put_row(rows, place, row), till)
  end

  -- Numbers a reservation of this subject.
  local function new_life(key, secret, ends)
    local number, birth, till = annexes.numbers(rows_at(key), now)
    number, birth = (number or 0) + 1, birth or secret
    write_numbers(key, number, birth, till or 0, ends)
    return { number = number, birth = birth }
  end

  -- Replies to a check that is open already: the counters as they are.
  local function replay(kept)
    local verdict_at, count, from = replied + 1, byte(checks, at), at + 1
    replied = verdict_at
    for _ = 1, count do
      local key, index
      key, index, _, from = unpack_from('<I2I2d', checks, from)
      local limit, rows = limits[index], rows_of[key]
      local level, window = limit[READ](rows, rows and find_row(rows, limit[HEAD]), limit, now)
      if not level then
        reply[verdict_at], replied = 2, verdict_at
        return
      end
      add_reply(level)
      if window then
        add_reply(window)
      end
    end
    reply[verdict_at] = 4
    add_reply(kept.terms)
  end

  -- Makes charge `i` of the judged check, and returns its units.
  local function charge(i, amount, number)
    local key, limit = key_of[i], limit_of[i]
    local head, rows = limit[HEAD], rows_at(key)
    local place = find_row(rows, head)
    if after_of[i] then
      local level = limit[READ](rows, place, limit, now)
      local row, annex, till = rare_of(limit).reserve(rows, place, annexes.get(rows, head), limit,
        level, window_of[i], amount, number, now)
      change(key, annexes.put(put_row(rows, place, row), head, annex), till)
      return amount / limit[4]
    end
    if forced_of[i] then
      change(key, annexes.write(rows, limit, forced_of[i], window_of[i], now))
    end
    return amount == 0 and 0 or -1
  end

  local function reserve(from)
    local key, ttl, check, size
    key, ttl, check, size, from = unpack_from('<I2dc8I2', checks, from)
    key = subjects + key
    local terms = sub(checks, from, from + size - 1)
    at = from + size
    local kept = kept_under(key)
    if kept then
      if kept.check == check and kept.ends >= now then
        replay(kept)
      else
        add_reply(5)
      end
      return
    end
    local count = byte(checks, at)
    local allowed, any_forced = judge()
    if not allowed then
      return any_forced
    end
    local ends, life_of = math.min(now + ttl, MAX_EXACT), {}
    kept = { check = check, ends = ends, lives = {}, charges = {}, terms = terms }
    for i = 1, count do
      local subject = key_of[i]
      if not life_of[subject] then
        kept.lives[#kept.lives + 1] = new_life(subject, sub(terms, 1, 8), ends)
        life_of[subject] = #kept.lives
      end
      local amount, life = unpack_from('<d', checks, at + 12 * i - 7), life_of[subject]
      local units = charge(i, amount, kept.lives[life].number)
      kept.charges[i] = { life = life, units = units, window = window_of[i] or 0 }
    end
    keep(key, kept, ttl)
  end

  -- The units that a charge comes to.
  local function units_over(charged, units)
    return units < 0 and math.max(charged, -1 - units) or units
  end

  -- The code of the reply if the counters of an adjustment cannot be adjusted now.
  local function not_now(kept, from)
    for i = 1, #kept.charges do
      local key, index, units
      key, index, units, from = unpack_from('<I2I2d', checks, from)
      local limit, rows, charged = limits[index], rows_of[key], kept.charges[i].units
      if limit then
        local level, _, _, earlier = limit[READ](rows, rows and find_row(rows, limit[HEAD]), limit, now)
        if not level then
          return 2
        end
        if earlier and limit[DAILY] and charged >= 0 and units_over(charged, units) > charged then
          return 3
        end
      end
    end
  end

  -- Adjusts one charge and replies with it.
  local function adjust_charge(charge, life, key, limit, units, extended)
    add_reply(charge.units)
    if not limit then
      return
    end
    local head, rows = limit[HEAD], rows_at(key)
    local place = rows and find_row(rows, head)
    local level, window = limit[READ](rows, place, limit, now)
    local number, birth, numbered_till = annexes.numbers(rows, now)
    local is_alive = number and birth == life.birth
    if charge.units >= 0 then
      units = units_over(charge.units, units)
      local row, till, annex, after, stored
      after, stored, row, till, annex = rare_of(limit).adjust(rows, place, annexes.get(rows, head),
        limit, is_alive and life.number or nil, charge.window, charge.units, units, now)
      level, window = after, window and stored
      if row then
        rows = annexes.put(put_row(rows, place, row), head, annex)
        change(key, rows, till)
      end
      charge.units = units
    end
    if is_alive and extended then
      write_numbers(key, number, birth, numbered_till, extended)
    end
    add_reply(level)
    if window then
      add_reply(window)
    end
  end

  local function adjust(from)
    local key, ttl, size
    key, ttl, size, from = unpack_from('<I2dI2', checks, from)
    key = subjects + key
    local terms, count = sub(checks, from, from + size - 1), byte(checks, from + size)
    from = from + size + 1
    local kept = kept_under(key)
    if not kept or kept.terms ~= terms or #kept.charges ~= count then
      add_reply(0)
      return
    end
    local why = not_now(kept, from)
    if why then
      add_reply(why)
      return
    end
    add_reply(kept.ends < now and 6 or 1)
    local extended = ttl > 0 and math.min(now + ttl, MAX_EXACT)
    for i = 1, count do
      local charge, subject, index, units = kept.charges[i]
      subject, index, units, from = unpack_from('<I2I2d', checks, from)
      adjust_charge(charge, kept.lives[charge.life], subject, limits[index], units, extended)
    end
    if extended then
      kept.ends = extended
      keep(key, kept, ttl)
    else
      rows_of[key], kept_text[key] = false, false
    end
  end

  -- Runs the operation at `at`. Returns false, and true if rows of the check that `at` then stands at
  -- are to be written although it is refused.
  function operate(code)
    changed, deadlines = {}, {}
    local any_forced
    if code == RESERVE then
      any_forced = reserve(at + 5)
    else
      adjust(at + 5)
    end
    for key, rows in pairs(changed) do
      rows_of[key] = rows
      needed[key] = math.max(needed[key] or 0, deadlines[key])
    end
    return false, any_forced
  end
end
