-- A subject's rows, packed into one string: the subject's only key in Redis.
--
--   header  <B I4>    format version (2), deadline of the key in seconds since 1970
--   row     <I7>      head: length of the body in bytes (8 bits), kind (5), digest (40)
--           body      as the kind's algorithm packs it
--
-- The id of a counter is its head with a length of 0. Rows of unknown kinds, written by another
-- release, are walked over and kept. All numbers are whole and below 2^53. The meaning of a body is
-- defined in its algorithm's file.

local byte, sub = string.byte, string.sub
local floor, ceil = math.floor, math.ceil
local pack, unpack_from = struct.pack, struct.unpack

local FORMAT = 2
local HEADER = 5
local ROW_HEAD = 7

-- The algorithms by the kind of their rows; no row has kind 0. Each file of an algorithm adds its
-- entry: five functions in this order, of which `at` is the position of the limit's row in `rows`,
-- nil if there is none; then the length of a row's body, if all have one. Redis runs the whole
-- script for every call, so functions that few calls need are made by `rare`, and concurrency,
-- which few limits use, by algorithm_of_slots.
--
--   limit(packed, at, now)          the limit packed at `at`, and the position behind it
--   read(rows, at, limit, now)      level of the counter, nil if `now` lies outside the windows;
--                                   window, nil if there are none, or what else the reply says of
--                                   the counter; true if the clock has stepped back behind the row,
--                                   which then is written in any case; true if the row belongs to an
--                                   earlier window
--   write(rows, at, limit, level, window, now)
--                                   the row to store, and until when it matters (us)
--   matters(rows, at, now)          false if a missing row would mean the same
--   rare()                          a table of more, of which an algorithm has those it needs:
--     refund(rows, at, limit, amount, charged, now)
--                                   the row after a refund, nil if there is nothing to refund
--     correct(rows, at, limit, change, amount, granted, now)
--                                   the row after an operator's correction, until when it
--                                   matters, its day, and the units granted by it; nil if the
--                                   correction does not apply
--     follow(rows, at, annex, limit, level, row)
--                                   the annex after `row` is written, which reserves nothing, over a
--                                   counter that reads as `level`
--     reserve(rows, at, annex, limit, level, window, amount, number, now)
--                                   the row and the annex after the charge of a reservation, and
--                                   until when the row matters
--     adjust(rows, at, annex, limit, level, window, number, charged, from, to, now)
--                                   level and window, which are now as given, after a charge of
--                                   `from` units in the window `charged` has come to `to`; if they
--                                   change, the row, until when it matters, and the annex; `number`
--                                   is nil if the subject has numbered anew since
--     take, hold                    what slots have in place of the last three: see
--                                   lua/concurrency.lua
--     correct_annex(change, number) the annex after a correction of a subject whose newest
--                                   reservation has `number`; nil if it stays
--
-- A counter that reservations are charged to has an annex, in rows of its kind + 4 with up to 250
-- bytes each: see the algorithms' files. They stand before all others; but slots, which only
-- reservations change, behind their counter's row, and the algorithm writes them itself: see
-- lua/concurrency.lua. The reservations of a subject are numbered by
--
--   7 numbers  <I6 c8 I5>  number of the newest reservation, a random tag of this life of the
--                          numbers, and until when they matter (s)
local ALGORITHMS = { false, false }

-- Slots of a limit: its algorithm's `read`, the head of its row, the level that must not be
-- exceeded, its flags, and its algorithm's `write`. Slots 3, 4, 10 and 11 belong to the algorithm.
-- Slot 12 is true if only subjects that have a key are charged, and nil in most calls.
local READ, HEAD, SIZE, SHADOW, ALTERNATIVE, DAILY, WRITE = 1, 2, 5, 6, 7, 8, 9

-- The strings stored under `keys`, in the same order; false for a missing key. In slices, since a
-- Lua call takes no more than some 8,000 arguments.
local function mget_all(keys)
  local count = #keys
  if count == 0 then
    return {}
  end
  local values = redis.call('MGET', unpack(keys, 1, math.min(count, 4000)))
  for first = 4001, count, 4000 do
    local more = redis.call('MGET', unpack(keys, first, math.min(count, first + 3999)))
    for i = 1, #more do
      values[first - 1 + i] = more[i]
    end
  end
  return values
end

-- The last position of an annex of a row that was looked for; false if none had one since it was
-- last set to false.
local annex_found = false

-- The position of the row with this head in `rows`; nil if there is none, as with a head of 0. A
-- damaged string is an error: stray or missing bytes hide the rows behind them, so before a row
-- counts as missing, all rows need the lengths of their kinds, and the last one has to end with the
-- string. Within a row such bytes shift its numbers: algorithms look for the head 0 if a number is
-- not the usual one.
--
-- Numbers are literals, since every captured local costs time in each call.
local function find_row(rows, head)
  if byte(rows) ~= 2 then
    error('this string has format ' .. tostring(byte(rows)) .. ', and this version knows 2')
  end
  local at, last, id = 6, #rows, head - head % 256
  while at <= last do
    local other = unpack_from('<I7', rows, at)
    local len = other % 256
    if other - len == id then
      if other ~= head or at + 6 + len > last then
        error('a row has the length ' .. len .. ', or is cut short')
      end
      return at
    elseif other - len == id + 1024 then
      annex_found = math.max(annex_found or 0, at)
    end
    at = at + 7 + len
  end
  at = 6
  while at < last do
    local len, kind = byte(rows, at, at + 1)
    local algorithm = ALGORITHMS[kind % 32]
    if kind % 32 == 0 or algorithm and (algorithm[6] or len) ~= len then
      error('a row has the length ' .. len)
    end
    at = at + 7 + len
  end
  if at ~= last + 1 then
    error('the last row is cut short')
  end
end

-- `rows` with `row` in place of the one at `at`, which has the same length, or appended if `at` is
-- nil. `rows` may be absent.
local function put_row(rows, at, row)
  if not rows then
    return pack('<BI4', FORMAT, 0) .. row
  elseif not at then
    return rows .. row
  end
  return sub(rows, 1, at - 1) .. row .. sub(rows, at + #row)
end

-- Functions of annexes and numbers, made by the calls that need them.
local function functions_of_annexes()
  local annexes = ALGORITHMS[0]
  if annexes then
    return annexes
  end
  local unpack_from, sub, concat = struct.unpack, string.sub, table.concat
  annexes = {}
  ALGORITHMS[0] = annexes

  -- The position of the row of numbers, nil if there is none; and if they still matter the newest
  -- number of a subject's reservations, the tag of this life of the numbers, and until when they
  -- matter (us). `rows` may be absent.
  function annexes.numbers(rows, now)
    local at = rows and find_row(rows, 1811)
    if at then
      local last, birth, till = unpack_from('<I6c8I5', rows, at + 7)
      if till * 1000000 >= now then
        return at, last, birth, till * 1000000
      end
    end
    return at
  end

  -- The position of the annex of the counter with this head, after its row was looked for; nil if
  -- there is none.
  function annexes.find(rows, head)
    local id, at, last = head - head % 256 + 1024, 6, math.min(annex_found or 0, #rows - 6)
    while at <= last do
      local other = unpack_from('<I7', rows, at)
      local len = other % 256
      if other - len == id then
        return at
      end
      at = at + 7 + len
    end
  end

  -- The position behind the annex at `from`.
  local function end_of(rows, from)
    local first = unpack_from('<I7', rows, from)
    local len, last = first % 256, #rows
    local id, other = first - len, first
    repeat
      from = from + 7 + other % 256
      other = from <= last and unpack_from('<I7', rows, from) or 0
    until other - other % 256 ~= id
    return from
  end

  -- The annex at `from`, of which no more than 250 bytes are in a row.
  function annexes.get(rows, from)
    local len = byte(rows, from)
    if len < 250 then
      return sub(rows, from + 7, from + 6 + len)
    end
    local parts, behind = {}, end_of(rows, from)
    while from < behind do
      len = byte(rows, from)
      parts[#parts + 1] = sub(rows, from + 7, from + 6 + len)
      from = from + 7 + len
    end
    return concat(parts)
  end

  -- The rows of an annex of the counter with this head.
  function annexes.pack(head, annex)
    local id, parts = head - head % 256 + 1024, {}
    if #annex <= 250 then
      return #annex > 0 and struct.pack('<I7', id + #annex) .. annex or ''
    end
    for first = 1, #annex, 250 do
      local part = sub(annex, first, first + 250 - 1)
      parts[#parts + 1] = struct.pack('<I7', id + #part) .. part
    end
    return concat(parts)
  end

  -- `rows` with this annex of the counter with this head in place of the one at `from`, or if that
  -- is nil before all rows; and by how much the rows behind it have moved.
  function annexes.put(rows, from, head, annex)
    local behind, packed = from and end_of(rows, from) or 6, annexes.pack(head, annex)
    from = from or 6
    local moved = from + #packed - behind
    annex_found = (annex_found or 6) + math.max(moved, 0)
    return sub(rows, 1, from - 1) .. packed .. sub(rows, behind), moved
  end

  -- `rows` after `row` is written at `at`, which reserves nothing, and the annex at `from` has
  -- followed the counter, which was at `level`; and by how much the rows behind it have moved, nil
  -- for nothing.
  function annexes.follow(rows, at, from, limit, level, row)
    local head, annex = limit[2], annexes.get(rows, from)
    local rare = ALGORITHMS[math.floor(head / 256) % 32][5]()
    -- Slots follow no write that reserves nothing.
    if not rare.follow then
      return put_row(rows, at, row)
    end
    local followed = rare.follow(rows, at, annex, limit, level, row)
    local behind = from + 7 + #annex
    if at and #followed == #annex and #annex < 250 then
      return sub(rows, 1, from + 6) .. followed .. sub(rows, behind, at - 1) .. row
        .. sub(rows, at + #row)
    end
    return annexes.put(put_row(rows, at, row), from, head, followed)
  end

  -- `rows` after `row` is written, which reserves nothing, and the annex has followed.
  function annexes.replace(rows, limit, row, now)
    annex_found = false
    local at = find_row(rows, limit[2])
    local from = annexes.find(rows, limit[2])
    if from then
      return (annexes.follow(rows, at, from, limit, limit[1](rows, at, limit, now), row))
    end
    return put_row(rows, at, row)
  end

  return annexes
end

-- `rows` without those that no longer matter. Rows of unknown kinds are kept.
local function drop_expired(rows, now)
  local kept, at, last = { sub(rows, 1, HEADER) }, HEADER + 1, #rows
  local _, numbered = functions_of_annexes().numbers(rows, now)
  while at <= last do
    local behind, kind = at + ROW_HEAD + byte(rows, at), byte(rows, at + 1) % 32
    local algorithm, matters = ALGORITHMS[kind], true
    if algorithm then
      matters = algorithm[4](rows, at, now)
    elseif kind == 7 or kind == 8 or kind == 12 or kind > 4 and ALGORITHMS[kind - 4] then
      -- Slots too, whose algorithm few calls make. Kind 4 has no annex: ALGORITHMS[0] is a cache.
      matters = numbered
    end
    if matters then
      kept[#kept + 1] = sub(rows, at, behind - 1)
    end
    at = behind
  end
  return table.concat(kept)
end

-- Stores `rows` under `key` at least until `till` (us). The deadline lies on a grid of 64 s, one to
-- two steps ahead, so that most writes leave it alone: setting it is the dearest part of a write.
-- A deadline is never brought forward, so rows of unknown kinds live as long as they were meant to.
local function store_rows(key, rows, till, now)
  local _, deadline = unpack_from('<BI4', rows)
  till = till / 1000000
  if till < deadline then
    redis.call('SET', key, rows, 'KEEPTTL')
    return
  end
  deadline = (floor(till / 64) + 2) * 64
  -- Damaged rows stay as they are: only the checks that read them fail.
  local readable, kept = pcall(drop_expired, rows, now)
  rows = readable and kept or rows
  -- After 2106 the deadline does not fit into the header, and is set more often.
  local header = pack('<BI4', FORMAT, math.min(deadline, 4294967295))
  redis.call('SET', key, header .. sub(rows, HEADER + 1), 'PXAT', deadline * 1000)
end
