-- A subject's rows, packed into one string: its only key in Redis.
--
--   header   <B I4>                 format version (1), deadline of the key in seconds since 1970
--   throttle <I5 I7 I7 I5 I5 I4>    id, level in 1/per units, when that was in us, per, what drains
--                                   per us, and since when (in 2^20 us since 1970) it does
--   quota    <I5 i7 I5>             id, units used, the civil second (since 1970) in which its window starts
--
-- An id's lowest bit is 1 for a quota, so rows that a script does not know can be walked over.
-- All numbers are whole and below 2^53. What a row means is for its algorithm's file.

local byte, sub = string.byte, string.sub
local floor, ceil = math.floor, math.ceil
local pack, unpack_from = struct.pack, struct.unpack

local FORMAT_VERSION = 1
local HEADER_SIZE = 5
local THROTTLE_ROW_SIZE, QUOTA_ROW_SIZE = 33, 17

-- The strings under `keys`, in their order; false where there is none. In slices, since a Lua call
-- takes no more than some 8,000 arguments.
local function mget_all(keys)
  local count = #keys
  if count == 0 then
    return {}
  end
  local values = redis.call('MGET', unpack(keys, 1, math.min(count, 4000)))
  for first = 4001, count, 4000 do
    local more = redis.call('MGET', unpack(keys, first, math.min(count, first + 3999)))
    for i = 1, #more do
      values[first - 1 + i] = more[i]
    end
  end
  return values
end

-- Where the row of limit `id` begins in `rows`; nil where there is none.
local function find_row(rows, id)
  if byte(rows) ~= FORMAT_VERSION then
    error('this row has format ' .. byte(rows) .. ', and this version knows ' .. FORMAT_VERSION)
  end
  local offset, len = HEADER_SIZE + 1, #rows
  while offset < len do
    local other = unpack_from('<I5', rows, offset)
    if other == id then
      return offset
    end
    offset = offset + (other % 2 == 0 and THROTTLE_ROW_SIZE or QUOTA_ROW_SIZE)
  end
end

-- `rows` with `row` at `offset`, or at the end where it has no place yet. `rows` may be absent.
local function put_row(rows, offset, row)
  if not rows then
    return pack('<BI4', FORMAT_VERSION, 0) .. row
  elseif not offset then
    return rows .. row
  end
  return sub(rows, 1, offset - 1) .. row .. sub(rows, offset + #row)
end

-- More than any window is long: a leap year and the time zones, in seconds.
local MAX_WINDOW_SECS = 368 * 86400

-- `rows` without those that no longer matter: drained buckets, and quotas whose window began so
-- long ago that it has ended whatever its period.
local function drop_expired(rows, now)
  local kept, offset, len = { sub(rows, 1, HEADER_SIZE) }, HEADER_SIZE + 1, #rows
  while offset < len do
    local size, matters
    if unpack_from('<I5', rows, offset) % 2 == 0 then
      local _, level, when, _, drain = unpack_from('<I5I7I7I5I5', rows, offset)
      size, matters = THROTTLE_ROW_SIZE, level > math.max(0, now - when) * drain
    else
      local _, _, window = unpack_from('<I5I7I5', rows, offset)
      size, matters = QUOTA_ROW_SIZE, (window + MAX_WINDOW_SECS) * 1000000 >= now
    end
    if matters then
      kept[#kept + 1] = sub(rows, offset, offset + size - 1)
    end
    offset = offset + size
  end
  return table.concat(kept)
end

-- Keeps `rows` under `key` at least until `till` (us). The deadline lies on a grid of 64 s, one to
-- two steps ahead, so that most writes leave it alone: setting it is the dearest part of a write.
local function store_rows(key, rows, till, now)
  local _, deadline = unpack_from('<BI4', rows)
  till = till / 1000000
  if till < deadline then
    redis.call('SET', key, rows, 'KEEPTTL')
    return
  end
  deadline = (floor(till / 64) + 2) * 64
  -- Rows that cannot be walked over stay as they are: whoever meets them fails alone.
  local readable, kept = pcall(drop_expired, rows, now)
  rows = readable and kept or rows
  -- Beyond 2106 the header has no room: it then says less, and the deadline is set more often.
  local header = pack('<BI4', FORMAT_VERSION, math.min(deadline, 4294967295))
  redis.call('SET', key, header .. sub(rows, HEADER_SIZE + 1), 'PXAT', deadline * 1000)
end
