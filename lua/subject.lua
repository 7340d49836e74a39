-- A subject's rows, packed into one string: the subject's only key in Redis.
--
--   header  <B I4>    format version (2), deadline of the key in seconds since 1970
--   row     <I7>      head: length of the body in bytes (8 bits), kind (5), digest (40)
--           body      as the kind's algorithm packs it
--
-- The id of a counter is its head with a length of 0. Rows of unknown kinds, written by another
-- release, are walked over and kept. All numbers are whole and below 2^53. The meaning of a body is
-- defined in its algorithm's file.

-- The algorithms by the kind of their rows: 1 token bucket, 2 calendar quota, 8 concurrency; no row
-- has kind 0. Redis runs the whole script for every call, and each function that it makes costs
-- time, as each local does that a function captures. So each algorithm is a function that makes its
-- own, called if a limit needs them. It returns a function that unpacks the limit at a position,
-- with the position behind it, and `matters`, unless that is not needed. A limit has in its slots
--
--   1 read, 2 head of its row, 3 and 4 of the algorithm, 5 level that must not be exceeded,
--   6 true for a shadow limit, 7 for one of several alternatives, 8 for a counter of daily usage,
--   9 write, 10 and 11 of the algorithm, 12 rare, 13 true if no new subject is charged, 14 usual,
--   see lua/usual_checks.lua
--
-- of which these are functions; `at` is the position of the limit's row in `rows`, nil if there is
-- none:
--
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

local byte, unpack_from = string.byte, struct.unpack

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
    kind = kind % 32
    local usual = kind == 1 and 28 or kind == 2 and 12 or kind == 8 and 21 or len
    if kind == 0 or len ~= usual then
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
  local sub = string.sub
  if not rows then
    return struct.pack('<BI4', 2, 0) .. row
  elseif not at then
    return rows .. row
  end
  return sub(rows, 1, at - 1) .. row .. sub(rows, at + #row)
end

