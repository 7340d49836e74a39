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
    ok, allowed, any_forced = pcall(judge)
  end
  if not ok then
    replied = before + 1
    reply[replied] = tostring(allowed)
  elseif allowed or any_forced then
    if annex_found then
      for i = 1, count do
        local after = allowed and after_of[i] or forced_of[i]
        if after then
          local key, till = key_of[i]
          rows_of[key], till =
            functions_of_annexes().write(rows_of[key], limit_of[i], after, window_of[i], now)
          needed[key] = math.max(needed[key] or 0, till)
        end
      end
    else
      write(count, allowed)
    end
  end
  at = behind
end

-- A check that failed may have left levels beyond the reply's end.
for i = #reply, replied + 1, -1 do
  reply[i] = nil
end

for key, till in pairs(needed) do
  store_rows(KEYS[key], rows_of[key], till, now)
end
if kept_text then
  for key, text in pairs(kept_text) do
    if text then
      redis.call('SET', KEYS[key], text, 'PX', string.format('%.0f', kept_for[key]))
    else
      redis.call('DEL', KEYS[key])
    end
  end
end
return reply
