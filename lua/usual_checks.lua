-- The usual checks of a batch: each counter has its row, and the rows of a subject begin with those
-- of the charges, in their order. Judges checks from position `at` on as lua/check.lua does, until
-- one is not as usual: of that nothing has been written then. Returns where that check begins, and
-- the length of the reply before it. A subject to which a check comes back is not as usual, since
-- its first row belongs to another limit.
--
-- A row is read by one call and written by another, the first one of a subject together with the
-- header, since the calls of C functions and the strings that they make are most of what a check
-- costs. For the same reason the first charge of a check, mostly its only one, stands before the loop
-- over the others. A limit has one function more for that, in slot 14, unless it is one of several
-- alternatives:
--
--   usual(rows, at, limit, amount, now)
--                 level of the counter, nil if the row at `at` is not as usual; window; the row to
--                 store, nil if the limit is exceeded, and until when it matters (us); the position
--                 behind the row; and if `at` is 1, where the subject's header and first row stand,
--                 the header, which the row to store then has, too. One of another format is not as
--                 usual

local function judge_usual(checks, at, limits, rows_of, needed, reply, replied, now)
  local unpack_from, sub = unpack_from, string.sub
  local last_at = #checks - 12
  while at <= last_at do
    local count, key, index, amount, from = unpack_from('<BI2I2d', checks, at)
    local rows, limit = rows_of[key], limits[index]
    local usual = rows and limit and amount > 0 and limit[14]
    if not usual or count > 250 or count == 0 then
      return at, replied
    end
    local level, window, text, till, place, header = usual(rows, 1, limit, amount, now)
    -- A shadow limit never refuses, and is not charged what does not fit.
    if not level or not text and limit[6] then
      return at, replied
    end
    local verdict, last, others, other = text and 1 or 0, replied + 2, nil, 0
    reply[last] = level
    if window then
      last = last + 1
      reply[last] = window
    end
    for _ = 2, count do
      local next_key, row, row_till, first
      if from > last_at + 1 then
        return at, replied
      end
      next_key, index, amount, from = unpack_from('<I2I2d', checks, from)
      if next_key ~= key then
        -- For each other subject its key, rows to store, until when they matter, and header.
        others = others or {}
        others[other + 1], others[other + 2], others[other + 3], others[other + 4] =
          key, text and text .. sub(rows, place), till, header
        other = other + 4
        key, rows, text, till, place, header = next_key, rows_of[next_key], '', 0, 1, nil
      end
      limit = limits[index]
      usual = rows and limit and amount > 0 and limit[14]
      if not usual then
        return at, replied
      end
      level, window, row, row_till, place, first = usual(rows, place, limit, amount, now)
      if not level or not row and limit[6] then
        return at, replied
      end
      header, last = header or first, last + 1
      reply[last] = level
      if window then
        last = last + 1
        reply[last] = window
      end
      if row then
        text = text and text .. row
        till = row_till > till and row_till or till
      else
        text, verdict = nil, 0
      end
    end
    reply[replied + 1] = verdict
    if verdict == 1 then
      text = place <= #rows and text .. sub(rows, place) or text
    end
    while verdict == 1 do
      local was = needed[key]
      rows_of[key] = text
      if till / 1000000 < (header - 2) / 256 then
        needed[key] = was or 0
      elseif not was or was < till then
        needed[key] = till
      end
      if other == 0 then
        break
      end
      key, text, till, header = others[other - 3], others[other - 2], others[other - 1], others[other]
      other = other - 4
    end
    at, replied = from, last
  end
  return at, replied
end

