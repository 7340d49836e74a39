-- The usual call: one check, of subjects whose rows stand in the order of the charges. Judges it as
-- lua/check.lua does, which judges all other calls, and this one if anything is not as usual;
-- nothing has been written then. A call with one check costs as much as the functions and tables
-- that it makes, so this makes hardly any.

-- The strings stored under KEYS; false for a missing key. A call has far fewer keys than a call of
-- Lua takes arguments.
local rows_of = KEYS[1] and redis.call('MGET', unpack(KEYS)) or {}
local checks = ARGV[2]

if KEYS[1] and not ARGV[3] and #checks > 12 and #checks == 1 + 12 * string.byte(checks) then
  local byte, sub, pack, unpack_from = string.byte, string.sub, struct.pack, struct.unpack
  local packed, from, allowed, levels, stored = ARGV[1], 2, 1, '', { false }
  -- The index of the current limit, where it begins, and where the next one does.
  local limit, limit_at, next_limit_at = 0, 1, 1
  -- The index of the current subject, its rows as they are to be stored, the deadline of its key,
  -- the position of the next row, and true once a row is only read.
  local subject, rows, deadline, place, keeps_row = 0
  -- For each subject whose deadline has to be moved, until when its rows matter (us); and true if
  -- all of them are written, so that none is to be dropped.
  local needed, is_whole
  -- False until a charge has been read to its end.
  local is_usual
  for _ = 1, byte(checks) do
    local key, index, amount, kind, is_shadow, id, size, head, level, after, row, till, behind
    local _
    is_usual = false
    key, index, amount, from = unpack_from('<I2I2d', checks, from)
    if index == limit + 1 then
      limit, limit_at = index, next_limit_at
    elseif key == subject then
      break
    end
    if key == subject + 1 then
      local format
      subject, rows, keeps_row = key, rows_of[key], false
      -- MGET reads a key of another type as a missing one.
      if rows and #rows < 5 or not rows and redis.pcall('GET', KEYS[key]) then
        break
      end
      rows = rows or '\2\0\0\0\0'
      format, deadline, place = unpack_from('<BI4', rows)
      if format ~= 2 then
        break
      end
    end
    kind = byte(packed, limit_at)
    -- A shadow limit, as the meter of a plan without a daily quota is.
    is_shadow = kind % 2 == 1
    kind = is_shadow and kind - 1 or kind
    if key ~= subject or index ~= limit or amount < 0 then
      break
    elseif kind == 16 then
      -- A bucket that is new, or drains at the rate with which its row was written.
      local drain, per, when, was_per, was_drain, since
      _, id, drain, per, size, next_limit_at = unpack_from('<BI7ddd', packed, limit_at)
      behind = place + 35
      if behind - 1 <= #rows then
        head, level, when, was_per, was_drain, since = unpack_from('<I7I7I7I5I5I4', rows, place)
      elseif rows_of[key] then
        break
      else
        head, level, when, was_per, was_drain = id + 28, 0, now, per, drain
        since = (now - now % 1048576) / 1048576
      end
      if head ~= id + 28 or per ~= was_per or drain ~= was_drain or when > now
        or level > 9007199254740991 then
        break
      end
      level = level - (now - when) * drain
      if level < 0 then
        level = 0
      end
      after, levels = level + amount, levels .. pack('<i7', level)
      if amount > 0 then
        row, till = pack('<I7I7I7I5I5I4', head, after, now, per, drain, since), now + after / drain
      end
    elseif kind == 32 or kind == 36 then
      -- A quota that is new, or in the window in which its row was written; 4 more if its days are
      -- kept.
      local window, begins, second, third, ends, name, second_name, third_name
      _, id, size, begins, second, third, ends, name, second_name, third_name, next_limit_at =
        unpack_from('<BI7dddddI5I5I5', packed, limit_at)
      if now >= third then
        begins, name = third, third_name
      elseif now >= second then
        name, ends = second_name, third
      else
        ends = second
      end
      behind = place + 19
      if behind - 1 <= #rows then
        head, level, window = unpack_from('<I7i7I5', rows, place)
      elseif rows_of[key] then
        break
      else
        head, level, window = id + 12, 0, name
      end
      if head ~= id + 12 or window ~= name or now < begins or now >= ends
        or level > 9007199254740991 or level < -9007199254740991 then
        break
      end
      after, levels = level + amount, levels .. pack('<i7i7', level, window)
      if amount > 0 then
        row, till = pack('<I7i7I5', head, after, window), ends
        if kind == 36 then
          till = ends + 62 * 86400 * 1000000
        end
      end
    else
      break
    end
    if after > size then
      -- A shadow limit never refuses, and is not charged what does not fit.
      if is_shadow then
        break
      end
      allowed = 0
    end
    if row then
      rows = sub(rows, 1, place - 1) .. row .. sub(rows, behind)
      stored[key] = rows
      if till / 1000000 >= deadline then
        needed, is_whole = needed or {}, is_whole or {}
        needed[key] = math.max(needed[key] or 0, till)
      end
    elseif behind - 1 <= #rows then
      keeps_row = true
    else
      behind = place
    end
    if needed and needed[key] then
      is_whole[key] = behind > #rows and not keeps_row
    end
    place, is_usual = behind, true
  end
  if needed then
    for key in pairs(needed) do
      is_usual = is_usual and is_whole[key]
    end
  end
  if is_usual then
    for key = 1, allowed * subject do
      local text = stored[key]
      if text and needed and needed[key] then
        deadline = (math.floor(needed[key] / 1000000 / 64) + 2) * 64
        local header = pack('<BI4', 2, math.min(deadline, 4294967295))
        redis.call('SET', KEYS[key], header .. sub(text, 6), 'PXAT', deadline * 1000)
      elseif text then
        redis.call('SET', KEYS[key], text, 'KEEPTTL')
      end
    end
    return pack('<i7i7c0', now, allowed, levels)
  end
end
