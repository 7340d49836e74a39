-- Concurrency: slots that reservations hold, each until it is given back or its time is over. Twin
-- of core/src/algorithm/concurrency.rs, which documents the algorithm; change them together.
--
--   limit  <B I7 d>      flags, id, number of slots
--   body   <I7 I7 I7>    the counter's own time in us, the clock at which it was that, and a time
--                        before which no slot ends; 2^53 - 1 if there are none
--   annex  for each slot <I6 I7> number of the reservation, and end of the slot in own time; in the
--                        order in which they were taken, up to 19 in a row. A slot stays in its row,
--                        and one that is taken stands in the last row if that has room
--
-- 400 slots are 5 KB, and a call costs the strings that it makes: so the rows are replaced
-- that change, and slots that have ended are looked for once one has.
--
-- Few calls need any of this, so those that do make it: functions cost time in all others.

local function concurrency()
  local byte, sub, find = string.byte, string.sub, string.find
  local pack, unpack_from, min = struct.pack, struct.unpack, math.min
  local NEVER, MAX_TTL = 9007199254740991, 3600 * 1000000
  local SLOT, FULL = 13, 19 * 13

  -- The counter's time at `now`, which advances with the clock and never runs back; the time before
  -- which no slot ends; and true if the clock has stepped back behind the row.
  local function own_time(rows, at, now)
    if not at then
      return now, NEVER, false
    end
    local own, when, earliest = unpack_from('<I7I7I7', rows, at + 7)
    return now > when and min(own + (now - when), NEVER) or own, earliest, now < when
  end

  local function pack_row(limit, own, now, earliest)
    return pack('<I7I7I7I7', limit[2], own, now, earliest)
  end

  local function pack_list(limit, slots)
    return slots == '' and '' or pack('<I7', limit[2] - 21 + 1024 + #slots) .. slots
  end

  -- The position of the first row of a counter's list, that behind its last, the number of its
  -- slots, and the position of the last row. The numbers of slots do not tell that they are shifted,
  -- so the last row of the string has to end with it.
  local function find_list(rows, limit)
    local id, at, last = limit[2] - 21 + 1024, 6, #rows
    local first, behind, newest, bytes = nil, nil, nil, 0
    while at <= last do
      local head = unpack_from('<I7', rows, at)
      local len = head % 256
      if head - len == id and not behind then
        first, newest, bytes = first or at, at, bytes + len
      elseif first then
        behind = behind or at
      end
      at = at + 7 + len
    end
    if at ~= last + 1 then
      error('the last row is cut short')
    end
    return first or at, behind or at, bytes / SLOT, newest
  end

  -- The ends of the slots in the row at `first`, and the position of the next row.
  local function ends_in(rows, first)
    local len = byte(rows, first)
    local numbers = { unpack_from(string.rep('I6I7', len / SLOT), rows, first + 7) }
    local ends = {}
    for i = 1, len / SLOT do
      ends[i] = numbers[2 * i]
    end
    return ends, first + 7 + len
  end

  -- The list without the slots that have ended at `own`, the position of its last row, the number
  -- of the others, and the time before which none of them ends. The others stay in their rows.
  local function without_ended(rows, limit, first, behind, own)
    local list, count, earliest = {}, 0, NEVER
    while first < behind do
      local ends, next_row = ends_in(rows, first)
      local kept, at = {}, first + 7
      for i = 1, #ends do
        if ends[i] > own then
          count, earliest = count + 1, min(earliest, ends[i])
        else
          kept[#kept + 1], at = sub(rows, at, first + 6 + (i - 1) * SLOT), first + 7 + i * SLOT
        end
      end
      kept[#kept + 1], first = sub(rows, at, next_row - 1), next_row
      local row = pack_list(limit, table.concat(kept))
      list[#list + 1] = row ~= '' and row or nil
    end
    local text = table.concat(list)
    return text, list[1] and #text - #list[#list] + 1, count, earliest
  end

  -- The counter as a reservation changes it: its own time, the time before which no slot ends, and
  -- the number of slots; and where its list is: in `text` from `first` to before `behind`, with the
  -- last row at `newest`. That is `rows`, or a list without those `ended`, which then replaces the
  -- one from `old` to before `old_behind`. Without its row a list means nothing.
  local function open(rows, at, limit, now)
    local own, earliest = own_time(rows, at, now)
    local first, behind, count, newest = find_list(rows, limit)
    local counter = { own = own, earliest = earliest, count = count, ended = 0, text = rows,
      first = first, behind = behind, newest = newest, old = first, old_behind = behind }
    if not at or earliest <= own then
      counter.text, counter.newest, counter.count, counter.earliest =
        without_ended(rows, limit, first, behind, at and own or NEVER)
      counter.ended = at and count - counter.count or 0
      counter.first, counter.behind = 1, #counter.text + 1
    end
    return counter
  end

  -- The position of a reservation's slot, the row in which it is, and the number of slots that
  -- were taken before it; nil if it holds none.
  local function find_slot(counter, number)
    local text, list, before = counter.text, counter.first, 0
    local bytes, from = pack('<I6', number), list + 7
    while true do
      local place = find(text, bytes, from, true)
      if not place or place >= counter.behind then
        return nil
      end
      while place >= list + 7 + byte(text, list) do
        before, list = before + byte(text, list) / SLOT, list + 7 + byte(text, list)
      end
      if place >= list + 7 and (place - list - 7) % SLOT == 0 then
        return place, list, before + (place - list - 7) / SLOT
      end
      from = place + 1
    end
  end

  -- The change of a list that takes a slot more, as the functions of annexes return it.
  local function append(counter, limit, slot)
    local text, newest, behind = counter.text, counter.newest, counter.behind
    if not newest then
      return pack_list(limit, slot), behind, behind
    elseif byte(text, newest) < FULL then
      return pack_list(limit, sub(text, newest + 7, behind - 1) .. slot), newest, behind
    end
    return sub(text, newest, behind - 1) .. pack_list(limit, slot), newest, behind
  end

  -- The row, until when it matters, and the list once `part` replaces what lies from `first` to
  -- before `behind`.
  local function changed(counter, rows, at, limit, now, part, first, behind)
    local row, till = pack_row(limit, counter.own, now, counter.earliest), now + MAX_TTL
    if counter.text == rows then
      return row, till, part, first, behind
    end
    local list = sub(counter.text, 1, first - 1) .. part .. sub(counter.text, behind)
    if not at then
      -- A list stands behind its row.
      row, list = row .. list, ''
    end
    return row, till, list, counter.old, counter.old_behind
  end

  -- The end of a slot that is taken now.
  local function end_after(counter, ttl)
    local ends = min(counter.own + min(ttl, MAX_TTL), NEVER)
    counter.earliest = min(counter.earliest, ends)
    return ends
  end

  -- The slots in use; in place of a window the number of those that have ended and are still in the
  -- list.
  local function read(rows, at, limit, now)
    if not at then
      return 0, 0
    end
    local own, earliest, behind_row = own_time(rows, at, now)
    local first, behind, count = find_list(rows, limit)
    local ended = 0
    while earliest <= own and first < behind do
      local ends
      ends, first = ends_in(rows, first)
      for i = 1, #ends do
        ended = ends[i] > own and ended or ended + 1
      end
    end
    return count - ended, ended, behind_row
  end

  -- Notes the time. Only reservations take slots, so the level is not written.
  local function write(rows, at, limit, _, _, now)
    local own, earliest = own_time(rows, at, now)
    return pack_row(limit, own, now, earliest), now + MAX_TTL
  end

  local rare = {
    refund = function() end,

    -- Resets (change 4): no reservation holds a slot any more.
    correct = function(rows, at, limit, change, _, _, now)
      if at and change == 4 then
        return write(rows, at, limit, nil, nil, now)
      end
    end,

    reserve = function(rows, at, _, limit, _, _, _, number, now, ttl)
      local counter = open(rows, at, limit, now)
      local slot = pack('<I6I7', number, end_after(counter, ttl))
      return changed(counter, rows, at, limit, now, append(counter, limit, slot))
    end,

    -- A reservation that stays open holds its slot from now on, also if it had ended; one that ends
    -- frees it.
    adjust = function(rows, at, _, limit, _, _, number, _, _, to, now, ttl)
      local holds = number and ttl > 0 and to > 0
      if not at and not holds then
        return 0, 0
      end
      local counter = open(rows, at, limit, now)
      local level, part, first, behind = counter.count, '', counter.first, counter.first
      local place, list, before
      if number then
        place, list, before = find_slot(counter, number)
      end
      if holds then
        local slot = pack('<I6I7', number, end_after(counter, ttl))
        if place then
          part, first, behind = slot, place, place + SLOT
        else
          before, level = level, level + 1
          part, first, behind = append(counter, limit, slot)
        end
        if before < limit[5] then
          level = min(level, limit[5])
        end
      elseif place then
        local text = counter.text
        level, first, behind = level - 1, list, list + 7 + byte(text, list)
        local others = sub(text, list + 7, place - 1) .. sub(text, place + SLOT, behind - 1)
        part = pack_list(limit, others)
      end
      return level, counter.ended, changed(counter, rows, at, limit, now, part, first, behind)
    end,

    correct_annex = function(rows, at, _, limit, change)
      if at and change == 4 then
        return '', find_list(rows, limit)
      end
    end,
  }

  local function rare_functions()
    return rare
  end

  return function(packed, at)
    local _, id, size, behind = unpack_from('<BI7d', packed, at)
    local limit = { read, id + 21, 0, 1, size, false, false, false, write, false, false,
      rare_functions }
    return limit, behind
  end
end
