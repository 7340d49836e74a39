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
-- Replies to reserve: as to a check; or 4 the same check is open under this name, then the
-- counters' levels and windows, and the terms; 5 another check is open, or this one's ttl is over.
-- Replies to adjust: 0 there is no such reservation; 1 done, 6 done after the ttl; 2 and 3 as to a
-- check; and after 1 and 6 for each charge the units that were charged before (-1 if it was not
-- made), then level and window of its counter unless the limit no longer exists.
--
-- A reservation is one string: <B c8 I7 B> format (1), digest of the check, end of its ttl in us,
-- number of its lives; for each <I6 c8> number and birth tag of its subject's numbers; <B> number
-- of charges, for each <B i7 I5> its life, units (-1 if not made) and window (0 without); the
-- terms. It expires 10 minutes after its ttl.

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
  -- By how much the rows of each subject have moved since they were looked for; false if they have
  -- to be looked for again.
  local moved_by

  local function rows_at(key)
    local rows = changed[key]
    if rows == nil then
      rows = rows_of[key]
      local read = rows == false and redis.pcall('GET', KEYS[key])
      -- As in lua/check.lua; a reservation that this call has closed is still a string.
      if type(read) == 'table' and string.find(read.err, 'WRONGTYPE', 1, true) then
        error('the key has another type')
      end
    end
    return rows
  end

  local function change(key, rows, till)
    local deadline = deadlines[key]
    changed[key] = rows
    if not deadline or deadline < till then
      deadlines[key] = till
    end
  end

  local function rare_of(limit)
    return ALGORITHMS[floor(limit[HEAD] / 256) % 32][5]()
  end

  local function add_reply(value)
    replied = replied + 1
    reply[replied] = value
  end

  -- The parts of the reservation that is read or written: for each of its lives the number and
  -- birth tag; for each charge its life, units and window.
  local number_of, birth_of, life_of, units_of, started_of = {}, {}, {}, {}, {}
  -- For each charge that is adjusted the level of its counter.
  local level_of = {}

  -- Reads a reservation. Returns its digest of the check, the end of its ttl, and the
  -- numbers of its lives and charges, and its terms; nil if it can no longer be settled.
  local function read(text)
    local format, check, ends, lives, from = unpack_from('<Bc8I7B', text)
    if format ~= 1 then
      error('this reservation has format ' .. format .. ', and this version knows 1')
    end
    if ends + LATE < now then
      return nil
    end
    for i = 1, lives do
      number_of[i], birth_of[i], from = unpack_from('<I6c8', text, from)
    end
    local count = byte(text, from)
    from = from + 1
    for i = 1, count or 0 do
      life_of[i], units_of[i], started_of[i], from = unpack_from('<Bi7I5', text, from)
    end
    if not count or #text < from + 7 then
      error('this reservation is cut short')
    end
    return check, ends, lives, count, sub(text, from)
  end

  local function keep(key, check, ends, lives, count, terms, ttl)
    local parts = { pack('<Bc8I7B', 1, check, ends, lives) }
    for i = 1, lives do
      parts[1 + i] = pack('<I6c8', number_of[i], birth_of[i])
    end
    parts[2 + lives] = string.char(count)
    for i = 1, count do
      parts[2 + lives + i] = pack('<Bi7I5', life_of[i], units_of[i], started_of[i])
    end
    parts[3 + lives + count] = terms
    rows_of[key] = table.concat(parts)
    -- A millisecond more: Redis counts from the beginning of the current one.
    kept_text[key], kept_for[key] = rows_of[key], ceil((ttl + LATE) / 1000) + 1
  end

  -- Stores the numbers of a subject, whose row is at `place`, so that they matter until a
  -- reservation can no longer be settled.
  local function write_numbers(key, place, number, birth, till, ends)
    local needed_till = ceil(math.min(ends + LATE, MAX_EXACT) / 1000000) * 1000000
    if needed_till > till then
      till = needed_till
    end
    local row = pack('<I7I6c8I5', 1811, number, birth, till / 1000000)
    change(key, put_row(rows_at(key), place, row), till)
  end

  -- Numbers a reservation of this subject.
  local function new_life(key, secret, ends)
    local place, number, birth, till = annexes.numbers(rows_at(key), now)
    number, birth = (number or 0) + 1, birth or secret
    write_numbers(key, place, number, birth, till or 0, ends)
    return number, birth
  end

  -- Replies to a check that is open already: the counters as they are.
  local function replay(terms)
    local verdict_at, count, from = replied + 1, byte(checks, at), at + 1
    replied = verdict_at
    for _ = 1, count do
      local key, index
      key, index, _, from = unpack_from('<I2I2d', checks, from)
      local limit, rows = limits[index], rows_at(key)
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
    add_reply(terms)
  end

  -- The position of the row of charge `i`, nil if there is none, and of its annex.
  local function find(i, key, rows, head)
    local place, moved = place_of[i], moved_by[key]
    if moved == false then
      place = find_row(rows, head)
    elseif place then
      place = place + (moved or 0)
    elseif changed[key] then
      place = find_row(rows, head)
    end
    return place or nil, rows and annex_found and annexes.find(rows, head)
  end

  local function note_moved(key, moved)
    moved_by[key] = moved_by[key] ~= false and (moved_by[key] or 0) + (moved or 0)
  end

  -- Writes a counter and its annex, which was `before` and stood at `from`.
  local function write_counter(key, rows, place, from, head, row, before, annex, till)
    local size, moved = #annex, 0
    if annex == before then
      rows = put_row(rows, place, row)
    elseif from and place and size > 0 and size < 250 and #before < 250 then
      moved = size - #before
      rows = sub(rows, 1, from - 1) .. pack('<I7', head - head % 256 + 1024 + size) .. annex
        .. sub(rows, from + 7 + #before, place - 1) .. row .. sub(rows, place + #row)
      if moved > 0 then
        annex_found = annex_found + moved
      end
    else
      rows, moved = annexes.put(put_row(rows, place, row), from, head, annex)
    end
    if moved ~= 0 then
      note_moved(key, moved)
    end
    change(key, rows, till)
  end

  -- Makes charge `i` of the judged check, and returns its units.
  local function charge(i, amount, number, ttl)
    local key, limit = key_of[i], limit_of[i]
    local rows = rows_at(key)
    if after_of[i] then
      local place, from = find(i, key, rows, limit[HEAD])
      local take = rare_of(limit).take
      if take then
        change(key, take(rows, place, limit, number, ttl, now))
        moved_by[key] = false
        return amount
      end
      local level, before = limit[READ](rows, place, limit, now), from and annexes.get(rows, from) or ''
      local row, annex, till = rare_of(limit).reserve(rows, place, before, limit, level, window_of[i],
        amount, number, now)
      write_counter(key, rows, place, from, limit[HEAD], row, before, annex, till)
      return amount / limit[4]
    end
    if forced_of[i] then
      local level, place, from = forced_of[i], find(i, key, rows, limit[HEAD])
      local row, till = limit[WRITE](rows, place, limit, level, window_of[i], now)
      local moved
      if from then
        rows, moved = annexes.follow(rows, place, from, limit, level, row)
        note_moved(key, moved)
      else
        rows = put_row(rows, place, row)
      end
      change(key, rows, till)
    end
    return amount == 0 and 0 or -1
  end

  local function reserve(from)
    local key, ttl, check, size
    key, ttl, check, size, from = unpack_from('<I2dc8I2', checks, from)
    key = subjects + key
    local terms = sub(checks, from, from + size - 1)
    at = from + size
    local text = rows_at(key)
    if text then
      local open, ends, _, _, open_terms = read(text)
      if open then
        if open == check and ends >= now then
          replay(open_terms)
        else
          add_reply(5)
        end
        return
      end
    end
    local count = byte(checks, at)
    local allowed, any_forced = judge(true)
    if not allowed then
      return any_forced
    end
    local ends, lives, numbered = math.min(now + ttl, MAX_EXACT), 0, {}
    for i = 1, count do
      local subject = key_of[i]
      local life = numbered[subject]
      if not life then
        lives = lives + 1
        life, numbered[subject] = lives, lives
        number_of[life], birth_of[life] = new_life(subject, sub(terms, 1, 8), ends)
      end
      local amount = unpack_from('<d', checks, at + 12 * i - 7)
      life_of[i], units_of[i] = life, charge(i, amount, number_of[life], ttl)
      started_of[i] = window_of[i] or 0
    end
    keep(key, check, ends, lives, count, terms, ttl)
  end

  -- The units that a charge comes to.
  local function units_over(charged, units)
    return units < 0 and math.max(charged, -1 - units) or units
  end

  -- The code of the reply if the counters of an adjustment cannot be adjusted now.
  local function not_now(count, from)
    for i = 1, count do
      local key, index, units
      key, index, units, from = unpack_from('<I2I2d', checks, from)
      local limit, rows, charged = limits[index], rows_at(key), units_of[i]
      if limit then
        local place = rows and find_row(rows, limit[HEAD])
        local level, window, _, earlier = limit[READ](rows, place, limit, now)
        if not level then
          return 2
        end
        if earlier and limit[DAILY] and charged >= 0 and units_over(charged, units) > charged then
          return 3
        end
        place_of[i], level_of[i], window_of[i] = place or false, level, window or false
      end
    end
  end

  -- Adjusts charge `i` of a reservation that stays open for `ttl`, or ends if that is 0, and
  -- replies with it. `number` is that of its life, nil if it is over.
  local function adjust_charge(i, number, key, limit, units, ttl)
    local charged, rows, level, window = units_of[i], rows_at(key), level_of[i], window_of[i] or nil
    add_reply(charged)
    local place, from = find(i, key, rows, limit[HEAD])
    if changed[key] then
      level, window = limit[READ](rows, place, limit, now)
    end
    if charged >= 0 then
      units_of[i] = units_over(charged, units)
      local rare, row, till = rare_of(limit)
      if rare.hold then
        level, window, row, till = rare.hold(rows, place, limit, number, units_of[i] > 0 and ttl or 0, now)
        if row then
          change(key, row, till)
          moved_by[key] = false
        end
      else
        local before, annex = from and annexes.get(rows, from) or ''
        level, window, row, till, annex = rare.adjust(rows, place, before, limit, level, window, number,
          started_of[i], charged, units_of[i], now)
        if row then
          write_counter(key, rows, place, from, limit[HEAD], row, before, annex, till)
        end
      end
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
    local wanted, charges = sub(checks, from, from + size - 1), byte(checks, from + size)
    from = from + size + 1
    local check, ends, lives, count, terms
    local text = rows_at(key)
    if text then
      check, ends, lives, count, terms = read(text)
    end
    if not check or terms ~= wanted or count ~= charges then
      add_reply(0)
      return
    end
    local why = not_now(count, from)
    if why then
      add_reply(why)
      return
    end
    add_reply(ends < now and 6 or 1)
    local subject_of, alive = {}, {}
    for i = 1, count do
      local life, subject, index, units = life_of[i]
      subject, index, units, from = unpack_from('<I2I2d', checks, from)
      if limits[index] then
        if not subject_of[life] then
          local _, number, birth = annexes.numbers(rows_at(subject), now)
          subject_of[life] = subject
          alive[life] = number and birth == birth_of[life] and number_of[life]
        end
        adjust_charge(i, alive[life] or nil, subject, limits[index], units, ttl)
      else
        add_reply(units_of[i])
      end
    end
    if ttl == 0 then
      rows_of[key], kept_text[key] = false, false
      return
    end
    ends = math.min(now + ttl, MAX_EXACT)
    for life, subject in pairs(subject_of) do
      if alive[life] then
        local place, number, birth, till = annexes.numbers(rows_at(subject), now)
        write_numbers(subject, place, number, birth, till, ends)
      end
    end
    keep(key, check, ends, lives, count, terms, ttl)
  end

  -- Runs the operation at `at`. Returns false, and true if rows of the check that `at` then stands
  -- at are to be written although it is refused.
  function operate(code)
    changed, deadlines, moved_by = {}, {}, {}
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
