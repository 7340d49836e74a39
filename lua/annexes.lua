-- Functions of annexes and numbers, made by the calls that need them.
local function functions_of_annexes()
  local unpack_from, sub, byte = struct.unpack, string.sub, string.byte
  local annexes = {}

  -- The position of the row of numbers, nil if there is none; and if they still matter the newest
  -- number of a subject's reservations, the tag of this life of the numbers, and until when they
  -- matter (us). `rows` may be absent. They are looked for behind the row at `from` first.
  function annexes.numbers(rows, now, from)
    local at, last = from or 6, rows and #rows or 0
    while at + 6 <= last do
      local head = unpack_from('<I7', rows, at)
      if head == 1811 then
        break
      end
      at = at + 7 + head % 256
    end
    if at + 6 > last then
      at = rows and find_row(rows, 1811) or nil
    end
    if at then
      local newest, birth, till = unpack_from('<I6c8I5', rows, at + 7)
      if till * 1000000 >= now then
        -- A damaged row may say more than a number holds exactly.
        return at, newest, birth, math.min(till, 9007199254) * 1000000
      end
    end
    return at
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
    local follow = limit[12]().follow
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

  -- Functions that replace the parts of a subject's rows, in whatever order they come. A string costs
  -- as much as it is long, so all are replaced at once.
  function annexes.parts()
    -- In the order of the rows: where each begins and ends, and what stands there then.
    local parts, first_of, behind_of, part_of, pieces = 0, {}, {}, {}, {}

    local function replace(first, behind, part)
      local i = parts + 1
      while i > 1 and first_of[i - 1] > first do
        first_of[i], behind_of[i], part_of[i] = first_of[i - 1], behind_of[i - 1], part_of[i - 1]
        i = i - 1
      end
      first_of[i], behind_of[i], part_of[i] = first, behind, part
      parts = parts + 1
    end

    -- `rows` with all the parts replaced, false if there are none.
    local function replaced(rows)
      if parts == 0 then
        return false
      end
      local from = 1
      for i = 1, parts do
        pieces[2 * i - 1], pieces[2 * i] = sub(rows, from, first_of[i] - 1), part_of[i]
        from = behind_of[i]
      end
      pieces[2 * parts + 1] = sub(rows, from)
      rows, parts = table.concat(pieces, '', 1, 2 * parts + 1), 0
      return rows
    end

    local function forget()
      parts = 0
    end

    return replace, replaced, forget
  end

  local bucket_matters, quota_matters
  -- `rows` without those that no longer matter. Rows of unknown kinds are kept.
  function annexes.drop_expired(rows, now)
    local kept, at, last = { sub(rows, 1, 5) }, 6, #rows
    local _, numbered = annexes.numbers(rows, now)
    if not bucket_matters then
      _, bucket_matters = token_bucket()
      _, quota_matters = calendar_quota()
    end
    while at <= last do
      local behind, kind = at + 7 + byte(rows, at), byte(rows, at + 1) % 32
      local matters = true
      if kind == 1 then
        matters = bucket_matters(rows, at, now)
      elseif kind == 2 then
        matters = quota_matters(rows, at, now)
      elseif kind == 5 or kind == 6 or kind == 7 or kind == 8 or kind == 12 then
        matters = numbered
      end
      if matters then
        kept[#kept + 1] = sub(rows, at, behind - 1)
      end
      at = behind
    end
    return table.concat(kept)
  end

  return annexes
end

