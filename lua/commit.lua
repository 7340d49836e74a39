-- Runs the checks of a call and the operations among them, in their order; then stores what has
-- changed and returns the reply. The end of the script that lua/check.lua begins.

while current.at <= #checks do
  local run = byte(checks, current.at) > 250 and operate or judge
  local ok, failure = pcall(run, checks, limits, rows_of, needed, reply, now, current)
  if not ok then
    local at, verdict_at = current.at, current.replied + 1
    local count = byte(checks, at)
    if count > 250 then
      current.at = at + 5 + unpack_from('<I4', checks, at + 1)
    else
      current.at = at + 1 + 12 * count
      -- If it was judged, some of its charges are written.
      for i = count, count > 1 and reply[verdict_at] and 1 or count + 1, -1 do
        local charge = current[i]
        if charge.before then
          rows_of[charge.key] = charge.before ~= '' and charge.before or nil
        end
      end
    end
    reply[verdict_at], current.replied = tostring(failure), verdict_at
    current.has_texts = true
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

if current.has_texts then
  -- A check that failed may have left levels beyond the reply's end.
  for i = #reply, current.replied + 1, -1 do
    reply[i] = nil
  end
else
  reply = struct.pack(string.rep('<i7', current.replied), unpack(reply, 1, current.replied))
end
