-- Opens reservations and adjusts their charges: operations among the checks of lua/check.lua, which
-- precedes this file. Twin of core/src/judge/reservation; change them together.
--
--   operation  <B I4>   251 reserves, 252 adjusts; length of the rest
--   reserve    <I2 d I2 c8>  index of the reservation's key (from 1, behind those of subjects), ttl
--                       in us, length of the terms, digest of the check; then the terms, whose
--                       first 8 bytes are random, and the check
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
-- A reservation is one string: <B I7 B> format (2) plus 8 times the number of its lives, end of its
-- ttl in us, number of its charges; for each life <I6 c8> number and birth tag of its subject's
-- numbers; for each charge <B> its life, unless there is only one, <i7 I5> units (-1 if not made) and
-- window (0 without); digest of the check; the terms. It expires 10 minutes after its ttl. With two
-- charges of a policy it has 124 bytes, so that Redis needs no more than 128 for it.

-- Runs the operation that `current` stands at.
local operate
-- For each changed reservation, by key: its string, false to delete it; and its lifetime in ms.
local kept_text, kept_for

if ARGV[4] then
  local subjects = tonumber(ARGV[4])
  local RESERVE, LATE, MAX_EXACT = 251, 600 * 1000000, 9007199254740991
  local annexes = functions_of_annexes()
  local sub, ceil, pack = string.sub, math.ceil, struct.pack
  -- The check of the operation, and the length of the reply.
  local at, replied
  kept_text, kept_for = {}, {}

  -- The parts of the reservation that is read or written: for each of its lives the number and
  -- birth tag; for each charge its life, units and window.
  local number_of, birth_of, life_of, units_of, started_of = {}, {}, {}, {}, {}
  -- For each life its subject, and the rows that are to be stored and until when they matter, false
  -- if they stay. They replace the others once the operation has succeeded.
  local subject_of, changed_of, deadline_of = {}, {}, {}
  -- For each charge its limit, place, window and level, where lua/check.lua has those of a check;
  -- `after` are the units that an adjusted charge comes to.
  local charges = current

  local function add_reply(value)
    replied = replied + 1
    reply[replied] = value
  end

  -- The rows of a subject, nil if there are none.
  local function rows_at(key)
    local rows = rows_of[key]
    local read = rows == false and redis.pcall('GET', KEYS[key])
    -- As in lua/check.lua.
    if read and string.find(read.err, 'WRONGTYPE', 1, true) then
      error('the key has another type')
    end
    return rows or nil
  end

  local replace, replaced, forget_parts = annexes.parts()
  local pieces = {}

  -- Replaces the row at `place`, or appends it if that is nil.
  local function replace_row(rows, place, row)
    local first = place or #rows + 1
    replace(first, place and first + #row or first, row)
  end

  -- Replaces a counter's row, and what changes of its annex.
  local function replace_counter(rows, place, row, first, behind, part)
    if part then
      replace(first, behind, part)
    end
    replace_row(rows, place, row)
  end

  -- Reads a reservation. Returns the end of its ttl, the numbers of its lives and charges, and the
  -- position of its digest; nil if it can no longer be settled.
  local function read(text)
    local format, ends, count, from = unpack_from('<BI7B', text)
    local lives = (format - 2) / 8
    if format % 8 ~= 2 or lives < 1 then
      error('this reservation has format ' .. format .. ', and this version knows 2')
    end
    if ends + LATE < now then
      return nil
    end
    for i = 1, lives do
      number_of[i], birth_of[i], from = unpack_from('<I6c8', text, from)
    end
    for i = 1, count do
      life_of[i] = 1
      if lives > 1 then
        life_of[i], from = unpack_from('<B', text, from)
        if life_of[i] < 1 or life_of[i] > lives then
          error('this reservation is cut short')
        end
      end
      units_of[i], started_of[i], from = unpack_from('<i7I5', text, from)
    end
    if #text < from + 15 then
      error('this reservation is cut short')
    end
    return ends, lives, count, from
  end

  -- The lifetime of a reservation's string in ms. A millisecond more: Redis counts from the
  -- beginning of the current one. Each is printed once, which takes as long as to read ten rows.
  local lifetimes = {}
  local function lifetime(ttl)
    lifetimes[ttl] = lifetimes[ttl] or string.format('%d', ceil((ttl + LATE) / 1000) + 1)
    return lifetimes[ttl]
  end

  -- Keeps a reservation, of which `rest` are the digest and the terms.
  local function keep(key, ends, lives, count, rest, ttl)
    pieces[1] = pack('<BI7B', 8 * lives + 2, ends, count)
    for i = 1, lives do
      pieces[1 + i] = pack('<I6c8', number_of[i], birth_of[i])
    end
    for i = 1, count do
      local life = lives > 1 and string.char(life_of[i]) or ''
      pieces[1 + lives + i] = life .. pack('<i7I5', units_of[i], started_of[i])
    end
    pieces[2 + lives + count] = rest
    rows_of[key] = table.concat(pieces, '', 1, 2 + lives + count)
    kept_text[key], kept_for[key] = rows_of[key], lifetime(ttl)
  end

  -- Until when the numbers matter while a reservation that ends at `ends` can be settled.
  local function numbers_until(ends)
    return ceil(math.min(ends + LATE, MAX_EXACT) / 1000000) * 1000000
  end

  -- Replies to a check that is open already: the counters as they are.
  local function replay(terms)
    local verdict_at, count, from = replied + 1, byte(checks, at), at + 1
    replied = verdict_at
    for _ = 1, count do
      local key, index
      key, index, _, from = unpack_from('<I2I2d', checks, from)
      local limit, rows = limits[index], rows_at(key)
      local level, window = limit[1](rows, rows and find_row(rows, limit[2]), limit, now)
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
    current.has_texts = true
  end

  -- Makes a charge of the judged check, on a counter that reads as `level`. Returns the units
  -- that are charged, and until when the counter's row matters.
  local function make_charge(charge, rows, level, amount, number, ttl)
    local limit, place, annex = charge.limit, charge.place, charge.annex
    if charge.after then
      local row, till, part, first, behind = limit[12]().reserve(rows, place, annex, limit,
        level, charge.window, amount, number, now, ttl)
      replace_counter(rows, place, row, annexes.part(rows, place, annex, part, first, behind))
      return amount / limit[4], till
    end
    local till
    if charge.forced then
      local row
      row, till = limit[9](rows, place, limit, charge.forced, charge.window, now)
      local follow = annex and limit[12]().follow
      if follow then
        replace(annexes.part(rows, place, annex, follow(rows, place, annex, limit, level, row)))
      end
      replace_row(rows, place, row)
    end
    return amount == 0 and 0 or -1, till
  end

  -- Numbers the reservation among those of a subject, and makes the charges of this life. The
  -- levels that their counters read as are in the reply from `state` on.
  local function begin_life(life, count, state, secret, ends, ttl)
    local subject, from = subject_of[life]
    local rows = rows_of[subject] or pack('<BI4', 2, 0)
    for i = 1, count do
      from = life_of[i] == life and charges[i].place or from
    end
    local place, number, birth, till = annexes.numbers(rows, now, from)
    number, birth = (number or 0) + 1, birth or secret
    till = math.max(till or 0, numbers_until(ends))
    local needed_till = till
    for i = 1, count do
      local charge = charges[i]
      if life_of[i] == life then
        local amount = unpack_from('<d', checks, at + 12 * i - 7)
        local units, row_till = make_charge(charge, rows, reply[state], amount, number, ttl)
        -- Slots have no window.
        units_of[i], started_of[i] = units, charge.limit[10] and charge.window or 0
        needed_till = math.max(needed_till, row_till or 0)
      end
      state = state + (charge.window and 2 or 1)
    end
    replace_row(rows, place, pack('<I7I6c8I5', 1811, number, birth, till / 1000000))
    number_of[life], birth_of[life] = number, birth
    changed_of[life], deadline_of[life] = replaced(rows), needed_till
  end

  -- Stores the rows of all lives, now that nothing can fail any more.
  local function store_lives(lives)
    for life = 1, lives do
      local subject = subject_of[life]
      if changed_of[life] then
        rows_of[subject] = changed_of[life]
        needed[subject] = math.max(needed[subject] or 0, deadline_of[life])
      end
    end
  end

  local function reserve(from)
    local key, ttl, size
    key, ttl, size, from = unpack_from('<I2dI2', checks, from)
    key, at = subjects + key, from + 8 + size
    local rest, text, state = sub(checks, from, at - 1), rows_of[key], replied + 2
    if text then
      local open, _, _, digest = read(text)
      if open then
        if open >= now and sub(text, digest, digest + 7) == sub(rest, 1, 8) then
          replay(sub(text, digest + 8))
        else
          add_reply(5)
        end
        return
      end
    end
    current.at = at
    local allowed, any_forced
    allowed, any_forced, replied =
      judge(checks, limits, rows_of, needed, reply, now, current, true)
    if current.is_dry or not allowed then
      if any_forced and not current.is_dry then
        -- Some rows are to be written in any case.
        judge(checks, limits, rows_of, needed, reply, now, current)
        replied = nil
      end
      return
    end
    local ends, lives, count = math.min(now + ttl, MAX_EXACT), 0, byte(checks, at)
    for i = 1, count do
      local life = 1
      local subject = charges[i].key
      while life <= lives and subject_of[life] ~= subject do
        life = life + 1
      end
      lives, subject_of[life], life_of[i] = math.max(lives, life), subject, life
    end
    for life = 1, lives do
      begin_life(life, count, state, sub(rest, 9, 16), ends, ttl)
    end
    store_lives(lives)
    keep(key, ends, lives, count, rest, ttl)
  end

  -- The units that a charge comes to.
  local function units_over(charged, units)
    return units < 0 and math.max(charged, -1 - units) or units
  end

  -- Reads the counters of an adjustment, of whose charges the first is at `from`. Returns the code
  -- of the reply if they cannot be adjusted now.
  local function read_counters(lives, count, from)
    for life = 1, lives do
      subject_of[life] = false
    end
    for i = 1, count do
      local key, index, units
      key, index, units, from = unpack_from('<I2I2d', checks, from)
      local limit, charged = limits[index], units_of[i]
      local charge = charges[i] or {}
      charges[i], charge.limit = charge, limit
      if limit then
        local rows, place, annex = rows_at(key)
        if rows then
          place, annex = find_row(rows, limit[2])
        end
        local level, window, _, earlier = limit[1](rows, place, limit, now)
        if not level then
          return 2
        end
        local after = units_over(charged, units)
        if earlier and limit[8] and charged >= 0 and after > charged then
          return 3
        end
        subject_of[life_of[i]] = key
        charge.place, charge.annex, charge.window = place, annex, window
        charge.level, charge.after = level, after
      end
    end
  end

  -- Adjusts the charges of this life. The reservation stays open for `ttl` until `ends`, or ends if
  -- `ttl` is 0.
  local function adjust_life(life, count, ends, ttl)
    local rows, from = rows_of[subject_of[life]] or pack('<BI4', 2, 0)
    for i = 1, count do
      from = life_of[i] == life and charges[i].limit and charges[i].place or from
    end
    local numbered_at, number, birth, till = annexes.numbers(rows, now, from)
    local is_alive = number and birth == birth_of[life]
    local needed_till = 0
    for i = 1, count do
      local charge, charged = charges[i], units_of[i]
      local limit = charge.limit
      if life_of[i] == life and limit and charged >= 0 then
        local place, annex = charge.place, charge.annex
        local row, row_till, part, first, behind
        charge.level, charge.window, row, row_till, part, first, behind = limit[12]().adjust(rows,
          place, annex, limit, charge.level, charge.window, is_alive and number_of[life] or nil,
          started_of[i], charged, charge.after, now, ttl)
        if row then
          replace_counter(rows, place, row, annexes.part(rows, place, annex, part, first, behind))
          needed_till = math.max(needed_till, row_till)
        end
      end
    end
    if ttl > 0 and is_alive then
      till = math.max(till, numbers_until(ends))
      replace_row(rows, numbered_at, pack('<I7I6c8I5', 1811, number, birth, till / 1000000))
      needed_till = math.max(needed_till, till)
    end
    changed_of[life], deadline_of[life] = replaced(rows), needed_till
  end

  local function adjust(from)
    local key, ttl, size
    key, ttl, size, from = unpack_from('<I2dI2', checks, from)
    key = subjects + key
    local text, terms, ends, lives, count, digest = rows_of[key], sub(checks, from, from + size - 1)
    if text then
      ends, lives, count, digest = read(text)
    end
    if not ends or count ~= byte(checks, from + size) or sub(text, digest + 8) ~= terms then
      add_reply(0)
      return
    end
    local why = read_counters(lives, count, from + size + 1)
    if why then
      add_reply(why)
      return
    end
    add_reply(ends < now and 6 or 1)
    ends = math.min(now + ttl, MAX_EXACT)
    for life = 1, lives do
      changed_of[life] = false
      if subject_of[life] then
        adjust_life(life, count, ends, ttl)
      end
    end
    for i = 1, count do
      local charge = charges[i]
      add_reply(units_of[i])
      if charge.limit then
        units_of[i] = units_of[i] >= 0 and charge.after or units_of[i]
        add_reply(charge.level)
        if charge.window then
          add_reply(charge.window)
        end
      end
    end
    store_lives(lives)
    if ttl == 0 then
      rows_of[key], kept_text[key] = false, false
    else
      keep(key, ends, lives, count, sub(text, digest), ttl)
    end
  end

  function operate()
    local start = current.at
    local code, len, from = unpack_from('<BI4', checks, start)
    forget_parts()
    replied = current.replied
    if code == RESERVE then
      reserve(from)
    else
      adjust(from)
    end
    if replied then
      current.at, current.replied = from + len, replied
    end
  end
end
