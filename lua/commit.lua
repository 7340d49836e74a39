-- Runs the checks of a call and the operations among them, in their order; then stores what has
-- changed and returns the reply. The end of the script that lua/check.lua begins.

while current.at <= #checks do
  local code = byte(checks, current.at)
  -- A dry run is judged alone, as a check that is reserved, and is not written.
  local is_dry = code == 253
  if is_dry then
    code = byte(checks, current.at + 1)
    current.at = current.at + 1
  end
  current.is_dry = is_dry
  local run = code > 250 and operate or judge
  local ok, failure, _, dry_replied =
    pcall(run, checks, limits, rows_of, needed, reply, now, current, is_dry)
  if ok and dry_replied then
    current.at, current.replied = current.at + 1 + 12 * code, dry_replied
  elseif not ok then
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
