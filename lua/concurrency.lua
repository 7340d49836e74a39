-- Concurrency: slots that reservations hold, each until it is given back or its time is over. Twin
-- of src/algorithm/concurrency.rs, which documents the algorithm; change them together.
--
--   limit  <B I7 d>      flags, id, number of slots
--   body   <I7 I7 I7>    the counter's own time in us, the clock at which it was that, and a time
--                        before which no slot ends; 2^53 - 1 if there are none
--   annex  for each slot <I6 I7> number of the reservation, and end of the slot in own time; in the
--                        order in which they were taken, up to 19 in a row
--
-- Up to 1,000 slots are 13 KB. A call costs the strings that it makes, so a change is
-- spliced into the subject's string; only when slots have ended the list is made anew.
--
-- Few calls need any of this, so those that do make it: functions cost time in all others.

local function algorithm_of_slots()
  local pack, unpack_from, sub, find = struct.pack, struct.unpack, string.sub, string.find
  local byte = string.byte
  local NEVER, MAX_TTL = 9007199254740991, 3600 * 1000000
  local SLOT, FULL = 13, 19 * 13

  -- The counter's time at `now`, which advances with the clock and never runs back; and the time
  -- before which no slot ends.
  local function own_time(rows, at, now)
    if not at then
      return now, NEVER
    end
    local own, when, earliest = unpack_from('<I7I7I7', rows, at + 7)
    return now > when and math.min(own + (now - when), NEVER) or own, earliest
  end

  local function pack_row(limit, own, now, earliest)
    return pack('<I7I7I7I7', limit[2], own, now, earliest)
  end

  local function pack_list(limit, list)
    return pack('<I7', limit[2] - 21 + 1024 + #list) .. list
  end

  -- The first row of a counter's list in `rows`, the position behind its last, the number of its
  -- slots, and the last row.
  local function find_list(rows, limit)
    local id, at, last = limit[2] - 21 + 1024, 6, #rows
    local first, newest, bytes = nil, nil, 0
    while at <= last do
      local head = unpack_from('<I7', rows, at)
      local len = head % 256
      if head - len == id then
        first, newest, bytes = first or at, at, bytes + len
      elseif first then
        break
      end
      at = at + 7 + len
    end
    return first or at, at, bytes / SLOT, newest
  end

  -- The slots from the row `first` on, each with its end.
  local function each_slot(rows, first, behind, visit)
    while first < behind do
      local next_row = first + 7 + byte(rows, first)
      for at = first + 7, next_row - SLOT, SLOT do
        local _, ends = unpack_from('<I6I7', rows, at)
        visit(sub(rows, at, at + SLOT - 1), ends)
      end
      first = next_row
    end
  end

  -- `rows` without the slots that have ended at `own`, the time before which none of the others
  -- ends, and the number of those that have.
  local function without_ended(rows, limit, own)
    local first, behind, count = find_list(rows, limit)
    local kept, earliest, lists = {}, NEVER, {}
    each_slot(rows, first, behind, function(slot, ends)
      if ends > own then
        kept[#kept + 1], earliest = slot, math.min(earliest, ends)
      end
    end)
    for i = 1, #kept, 19 do
      lists[#lists + 1] = pack_list(limit, table.concat(kept, '', i, math.min(i + 18, #kept)))
    end
    return sub(rows, 1, first - 1) .. table.concat(lists) .. sub(rows, behind), earliest,
      count - #kept
  end

  -- The position of a reservation's slot, the row in which it is, and the number of slots that
  -- were taken before it; nil if it holds none.
  local function find_slot(rows, list, behind, number)
    local bytes, from, before = pack('<I6', number), list + 7, 0
    while true do
      local place = find(rows, bytes, from, true)
      if not place or place >= behind then
        return nil
      end
      while place >= list + 7 + byte(rows, list) do
        before, list = before + byte(rows, list) / SLOT, list + 7 + byte(rows, list)
      end
      if place >= list + 7 and (place - list - 7) % SLOT == 0 then
        return place, list, before + (place - list - 7) / SLOT
      end
      from = place + 1
    end
  end

  -- `rows` with this row, and `part` in place of what lies from `first` to before `behind`; the
  -- list lies behind the row.
  local function splice(rows, at, row, first, behind, part)
    return sub(rows, 1, at - 1) .. row .. sub(rows, at + #row, first - 1) .. part .. sub(rows, behind)
  end

  -- `rows` with this row and a slot more.
  local function append(rows, at, row, limit, slot)
    local _, behind, _, newest = find_list(rows, limit)
    if newest and byte(rows, newest) < FULL then
      local list = sub(rows, newest + 7, behind - 1) .. slot
      return splice(rows, at, row, newest, behind, pack_list(limit, list))
    end
    return splice(rows, at, row, behind, behind, pack_list(limit, slot))
  end

  -- The counter as a reservation changes it: `rows` without slots that have ended, the position of
  -- its row, its own time, the time before which no slot ends, and the number of those that have.
  -- Without its row a list means nothing.
  local function open_counter(rows, at, limit, now)
    local own, earliest = own_time(rows, at, now)
    if not at then
      rows = without_ended(rows, limit, NEVER)
      return rows .. pack_row(limit, own, now, NEVER), #rows + 1, own, NEVER, 0
    elseif earliest > own then
      return rows, at, own, earliest, 0
    end
    local ended
    rows, earliest, ended = without_ended(rows, limit, own)
    return rows, at, own, earliest, ended
  end

  local function unpack_limit(packed, at)
    local _, id, size, next_at = unpack_from('<BI7d', packed, at)
    return { false, id + 21, 0, 1, size, false, false, false, false }, next_at
  end

  -- The slots in use; in place of a window the number of those that have ended and are still in the
  -- list.
  local function read(rows, at, limit, now)
    if not at then
      return 0, 0
    end
    local own, earliest = own_time(rows, at, now)
    local first, behind, count = find_list(rows, limit)
    local _, when = unpack_from('<I7I7', rows, at + 7)
    if earliest > own then
      return count, 0, now < when
    end
    local ended = 0
    each_slot(rows, first, behind, function(_, ends)
      ended = ends > own and ended or ended + 1
    end)
    return count - ended, ended, now < when
  end

  -- Notes the time. Only reservations take slots, so the level is not written.
  local function write(rows, at, limit, _, _, now)
    local own, earliest = own_time(rows, at, now)
    return pack_row(limit, own, now, earliest), now + MAX_TTL
  end

  local function matters(rows, _, now)
    local _, number = functions_of_annexes().numbers(rows, now)
    return number ~= nil
  end

  local rare = {
    refund = function() end,

    -- Resets (change 4): no reservation holds a slot any more.
    correct = function(rows, at, limit, change, _, _, now)
      if at and change == 4 then
        return write(rows, at, limit, nil, nil, now)
      end
    end,

    -- `rows` with a slot of this reservation for `ttl`, and until when the counter's row matters.
    take = function(rows, at, limit, number, ttl, now)
      local own, earliest
      rows, at, own, earliest = open_counter(rows, at, limit, now)
      local ends = math.min(own + math.min(ttl, MAX_TTL), NEVER)
      local row = pack_row(limit, own, now, math.min(earliest, ends))
      return append(rows, at, row, limit, pack('<I6I7', number, ends)), now + MAX_TTL
    end,

    -- Holds the slot of a reservation for `ttl` from now on, also if it had ended; frees it if that
    -- is 0. Returns the level and the number of slots that had ended; and if something changes,
    -- `rows` and until when the counter's row matters. `rows` may be absent.
    hold = function(rows, at, limit, number, ttl, now)
      local holds = number and ttl > 0
      if not at and not holds then
        return 0, 0
      end
      local own, earliest, ended
      rows, at, own, earliest, ended = open_counter(rows, at, limit, now)
      local first, behind, level = find_list(rows, limit)
      local place, list, before
      if number then
        place, list, before = find_slot(rows, first, behind, number)
      end
      local ends = holds and math.min(own + math.min(ttl, MAX_TTL), NEVER)
      local row = pack_row(limit, own, now, math.min(earliest, ends or NEVER))
      local slot = holds and pack('<I6I7', number, ends)
      if holds and place then
        rows = splice(rows, at, row, place, place + SLOT, slot)
      elseif holds then
        before, level, rows = level, level + 1, append(rows, at, row, limit, slot)
      elseif place then
        local next_list = list + 7 + byte(rows, list)
        local kept = sub(rows, list + 7, place - 1) .. sub(rows, place + SLOT, next_list - 1)
        level = level - 1
        rows = splice(rows, at, row, list, next_list, kept == '' and '' or pack_list(limit, kept))
      else
        rows = splice(rows, at, row, #rows + 1, #rows + 1, '')
      end
      if holds and before < limit[5] then
        level = math.min(level, limit[5])
      end
      return level, ended, rows, now + MAX_TTL
    end,

    correct_annex = function(change)
      return change == 4 and '' or nil
    end,
  }

  ALGORITHMS[8] = { unpack_limit, read, write, matters, function() return rare end, 21 }
  return ALGORITHMS[8]
end
