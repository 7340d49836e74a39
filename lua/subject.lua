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

-- The algorithms by the kind of their rows. Each file of an algorithm adds its entry: five
-- functions in this order, of which `at` is the position of the limit's row in `rows`, nil if there
-- is none. Redis runs the whole script for every call, so functions that few calls need are made by
-- `rare`.
--
--   limit(packed, at, now)          the limit packed at `at`, and the position behind it
--   read(rows, at, limit, now)      level of the counter, nil if `now` lies outside the windows;
--                                   window, nil if there are none; true if the clock has stepped
--                                   back behind the row, which then is written in any case; true
--                                   if the row belongs to an earlier window
--   write(rows, at, limit, level, window, now)
--                                   the row to store, and until when it matters (us)
--   matters(rows, at, now)          false if a missing row would mean the same
--   rare()                          a table of two more:
--     refund(rows, at, limit, amount, charged, now)
--                                   the row after a refund, nil if there is nothing to refund
--     correct(rows, at, limit, change, amount, granted, now)
--                                   the row after an operator's correction, until when it
--                                   matters, its day, and the units granted by it; nil if the
--                                   correction does not apply
local ALGORITHMS = { false, false }

-- Slots of a limit: its algorithm's `read`, the head of its row, the level that must not be
-- exceeded, its flags, and its algorithm's `write`. Slots 3, 4, 10 and 11 belong to the algorithm.
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

-- The position of the row with this head in `rows`; nil if there is none. A damaged string is an
-- error: one that does not end with a row's end, or whose row has another length than its kind.
local function find_row(rows, head)
  if byte(rows) ~= FORMAT then
    error('this row has format ' .. byte(rows) .. ', and this version knows ' .. FORMAT)
  end
  local at, last, id = HEADER + 1, #rows, head - head % 256
  while at <= last do
    local other = unpack_from('<I7', rows, at)
    local len = other % 256
    if other - len == id then
      if other ~= head or at + 6 + len > last then
        error('a row has the length ' .. len .. ', or is cut short')
      end
      return at
    end
    at = at + ROW_HEAD + len
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

-- `rows` without those that no longer matter. Rows of unknown kinds are kept.
local function drop_expired(rows, now)
  local kept, at, last = { sub(rows, 1, HEADER) }, HEADER + 1, #rows
  while at <= last do
    local behind = at + ROW_HEAD + byte(rows, at)
    local algorithm = ALGORITHMS[byte(rows, at + 1) % 32]
    if not algorithm or algorithm[4](rows, at, now) then
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
