-- The usual checks of a batch: each counter has its row, and the rows of a subject begin with those
-- of the charges, in their order. Judges checks from position `at` on as lua/check.lua does, until
-- one is not as usual: of that nothing has been written then. Returns where that check begins, and
-- the length of the reply before it. A subject to which a check comes back is not as usual, since
-- its first row belongs to another limit.
--
-- A row is read by one call and written by another, the first one of a subject together with the
-- header, since the calls of C functions and the strings that they make are most of what a check
-- costs. A limit has one function more for that, in slot 14, unless it is one of several
-- alternatives:
--
--   usual(rows, at, limit, amount, now)
--                 level of the counter, nil if the row at `at` is not as usual; window; the row to
--                 store, nil if the limit is exceeded, and until when it matters (us); the position
--                 behind the row; and if `at` is 1, where the subject's header and first row stand,
--                 the header, which the row to store then has, too

local function judge_usual(checks, at, limits, rows_of, needed, reply, replied, now)
  local unpack_from, sub = unpack_from, string.sub
  local last_at = #checks - 12
  while at <= last_at do
    local count, key, index, amount, from = unpack_from('<BI2I2d', checks, at)
    local rows, place, text, till, header = rows_of[key], 1, nil, 0, nil
    local verdict, last, charge = 1, replied + 1, 1
    -- For each other subject of the check its key, rows to store, until when they matter, and header.
    local others, other = nil, 0
    if count > 250 or count == 0 or at + 12 * count > #checks then
      return at, replied
    end
    while true do
      local limit = amount > 0 and rows and limits[index]
      local usual, level, window, row, row_till, first = limit and limit[14], nil
      if not usual then
        return at, replied
      end
      level, window, row, row_till, place, first = usual(rows, place, limit, amount, now)
      if not level then
        return at, replied
      elseif first then
        header = first
        if first % 256 ~= 2 then
          return at, replied
        end
      end
      last = last + 1
      reply[last] = level
      if window then
        last = last + 1
        reply[last] = window
      end
      if row then
        text = text and text .. row or row
        if row_till > till then
          till = row_till
        end
      elseif limit[6] then
        -- A shadow limit never refuses, and is not charged what does not fit.
        return at, replied
      else
        verdict = 0
      end
      local is_last, next_key = charge == count, key
      if not is_last then
        charge = charge + 1
        next_key, index, amount, from = unpack_from('<I2I2d', checks, from)
      end
      if is_last or next_key ~= key then
        if place <= #rows and text then
          text = text .. sub(rows, place)
        end
        if is_last then
          break
        end
        others = others or {}
        others[other + 1], others[other + 2], others[other + 3], others[other + 4] =
          key, text, till, header
        other = other + 4
        key, rows, place, text, till, header = next_key, rows_of[next_key], 1, nil, 0, nil
      end
    end
    reply[replied + 1] = verdict
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

