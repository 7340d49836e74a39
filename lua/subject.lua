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
--                                   the annex when `row` is written, which reserves nothing, on a
--                                   counter that has been as low as `level`
--     reserve(rows, at, annex, limit, level, window, amount, number, now, ttl)
--                                   the row after the charge of a reservation that is open for
--                                   `ttl`, until when it matters, and the annex
--     adjust(rows, at, annex, limit, level, window, number, charged, from, to, now, ttl)
--                                   level and window, which are now as given, after a charge of
--                                   `from` units in the window `charged` has come to `to`; if they
--                                   change, the row, until when it matters, and the annex; `number`
--                                   is nil if the subject has numbered anew since; `ttl` is 0 if the
--                                   reservation ends
--     correct_annex(rows, at, annex, limit, change, number)
--                                   the annex after a correction of a subject whose newest
--                                   reservation has `number`
--
-- A counter that reservations are charged to has an annex, a row of its kind + 4 that stands before
-- its own: see the algorithms' files. Slots stand behind it. `annex` is the annex' position, nil if
-- there is none. The functions return the annex, '' to remove it, nil if it stays; or a part of it,
-- and where that begins and ends. The reservations of a subject are numbered by
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

-- The position of the row with this head in `rows`, nil if there is none, as with a head of 0; and
-- that of its annex, nil without one. A damaged string is an error: stray or missing bytes hide the
-- rows behind them, so before a row counts as missing, all rows need the lengths of their kinds,
-- and the last one has to end with the string. Within a row such bytes shift its numbers:
-- algorithms look for the head 0 if a number is not the usual one.
--
-- Numbers are literals, since every captured local costs time in each call.
local function find_row(rows, head)
  if byte(rows) ~= 2 then
    error('this string has format ' .. tostring(byte(rows)) .. ', and this version knows 2')
  end
  local at, last, size = 6, #rows, head % 256
  local id, annex = head - size
  while at <= last do
    local other = unpack_from('<I7', rows, at)
    if other == head and at + 6 + size <= last then
      return at, annex
    end
    local len = other % 256
    if other - len == id then
      error('a row has the length ' .. len .. ', or is cut short')
    elseif other - len == id + 1024 then
      annex = at
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
  return nil, annex
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
  local unpack_from, sub, byte = struct.unpack, string.sub, string.byte
  annexes = {}
  ALGORITHMS[0] = annexes

  -- The position of the row of numbers, nil if there is none; and if they still matter the newest
  -- number of a subject's reservations, the tag of this life of the numbers, and until when they
  -- matter (us). `rows` may be absent. They are looked for behind the row at `from` first.
  function annexes.numbers(rows, now, from)
    local at, last = from or 6, rows and #rows or 0
    while at <= last do
      local head = unpack_from('<I7', rows, at)
      if head == 1811 then
        break
      end
      at = at + 7 + head % 256
    end
    if at > last then
      at = rows and find_row(rows, 1811) or nil
    end
    if at then
      local newest, birth, till = unpack_from('<I6c8I5', rows, at + 7)
      if till * 1000000 >= now then
        return at, newest, birth, till * 1000000
      end
    end
    return at
  end

  -- The functions that few calls need of a limit's algorithm.
  local rare_by_limit = {}
  function annexes.rare_of(limit)
    local rare = rare_by_limit[limit]
    if not rare then
      rare = ALGORITHMS[math.floor(limit[2] / 256) % 32][5]()
      rare_by_limit[limit] = rare
    end
    return rare
  end

  -- The part of an annex that changes: where it begins and ends, and what stands there then. A new
  -- annex is to stand before its row at `at`.
  function annexes.part(rows, at, annex, part, first, behind)
    if first then
      return first, behind, part
    elseif annex then
      return annex, annex + 7 + byte(rows, annex), part
    end
    first = at or #rows + 1
    return first, first, part
  end

  -- `rows` after `row` is written at `at`, which reserves nothing, and the annex has followed its
  -- counter, which has been as low as `level`; and by how much the rows behind it have moved.
  function annexes.follow(rows, at, annex, limit, level, row)
    local follow = annexes.rare_of(limit).follow
    if not follow then
      return put_row(rows, at, row), 0
    end
    local part, first, behind = follow(rows, at, annex, limit, level, row)
    at = at or #rows + 1
    if not first then
      first, behind = annex, annex + 7 + byte(rows, annex)
    end
    return sub(rows, 1, first - 1) .. part .. sub(rows, behind, at - 1) .. row
      .. sub(rows, at + #row), #part - (behind - first)
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
