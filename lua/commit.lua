-- Runs the checks of a call and the operations among them, in their order; then stores what has
-- changed and returns the reply. The end of the script that lua/check.lua begins.

at = 1
local len = #checks
while at <= len do
  local before, count, behind = replied, byte(checks, at)
  local ok, allowed, any_forced
  annex_found = false
  if count > 250 then
    behind = at + 5 + unpack_from('<I4', checks, at + 1)
    ok, allowed, any_forced = pcall(operate, count)
    count = byte(checks, at)
  else
    behind = at + 1 + 12 * count
    reply[before + 1] = false
    ok, allowed, any_forced = pcall(judge)
    if not ok and reply[before + 1] then
      -- It was judged, and some of its charges are written.
      for i = count, 1, -1 do
        local rows = place_of[i]
        if type(rows) == 'string' then
          rows_of[key_of[i]] = rows ~= '' and rows or nil
        end
      end
    end
  end
  if ok and (allowed or any_forced) then
    -- Rows behind an annex move when it loses marks.
    local changed, moved_by = {}, {}
    ok, allowed = pcall(function()
      local annexes, state = functions_of_annexes(), before + 1
      for i = 1, count do
        local after, key, limit = allowed and after_of[i] or forced_of[i], key_of[i], limit_of[i]
        state = state + 1
        if after then
          local rows, place = changed[key] or rows_of[key], place_of[i]
          place = place and place + (moved_by[key] or 0) or nil
          local row, till = limit[WRITE](rows, place, limit, after, window_of[i], now)
          local from, moved = rows and annexes.find(rows, limit[HEAD])
          if from then
            changed[key], moved = annexes.follow(rows, place, from, limit, reply[state], row)
            moved_by[key] = (moved_by[key] or 0) + (moved or 0)
          else
            changed[key] = put_row(rows, place, row)
          end
          needed[key] = math.max(needed[key] or 0, till)
        end
        if window_of[i] then
          state = state + 1
        end
      end
    end)
    for key, rows in pairs(ok and changed or {}) do
      rows_of[key] = rows
    end
  end
  if not ok then
    replied = before + 1
    reply[replied] = tostring(allowed)
  end
  at = behind
end

-- A check that failed may have left levels beyond the reply's end.
for i = #reply, replied + 1, -1 do
  reply[i] = nil
end

for key, till in pairs(needed) do
  -- A check that failed has left nothing of a new subject.
  local rows = rows_of[key]
  if rows then
    store_rows(KEYS[key], rows, till, now)
  end
end
if kept_text then
  for key, text in pairs(kept_text) do
    if text then
      redis.call('SET', KEYS[key], text, 'PX', kept_for[key])
    else
      redis.call('DEL', KEYS[key])
    end
  end
end
return reply
