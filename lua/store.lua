-- Stores the rows of the subjects that have changed, and returns the reply: the end of both
-- scripts.
--
-- A key lives at least until its rows no longer matter. Its deadline lies on a grid of 64 s, one to
-- two steps ahead, so that most writes leave it alone: setting it is the dearest part of a write.
-- A deadline is never brought forward, so rows of unknown kinds live as long as they were meant to.

local annexes
local KEYS, call = KEYS, redis.call
for key = 1, #KEYS do
  local till = needed[key]
  -- A check that failed has left nothing of a new subject.
  local rows = till and rows_of[key]
  if rows and till == 0 then
    -- A usual check, or a refund: the deadline is late enough.
    call('SET', KEYS[key], rows, 'KEEPTTL')
  elseif rows then
    local _, deadline = unpack_from('<BI4', rows)
    till = till / 1000000
    if till < deadline then
      call('SET', KEYS[key], rows, 'KEEPTTL')
    else
      deadline = (math.floor(till / 64) + 2) * 64
      annexes = annexes or functions_of_annexes()
      -- Damaged rows stay as they are: only the checks that read them fail.
      local readable, kept = pcall(annexes.drop_expired, rows, now)
      rows = string.sub(readable and kept or rows, 6)
      -- After 2106 the deadline does not fit into the header, and is set more often.
      local header = struct.pack('<BI4', 2, math.min(deadline, 4294967295))
      call('SET', KEYS[key], header .. rows, 'PXAT', deadline * 1000)
    end
  end
end
return reply
