-- Runs the checks of a call and the operations among them, in their order; then stores what has
-- changed and returns the reply. The end of the script that lua/check.lua begins.

at = 1
local len = #checks
while at <= len do
  local before, count, behind = replied, byte(checks, at)
  local ok, is_check, failure = true, true
  if count > 250 then
    behind = at + 5 + unpack_from('<I4', checks, at + 1)
    ok, is_check = pcall(operate, count)
    count, failure = byte(checks, at), is_check
  else
    behind = at + 1 + 12 * count
  end
  if ok and is_check then
    replied = before
    reply[before + 1] = false
    ok, failure = pcall(judge)
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
  if not ok then
    replied = before + 1
    reply[replied] = tostring(failure)
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
