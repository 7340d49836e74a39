-- Keeps days that are over; then makes what changes an operator asks for. All or nothing.
--
-- KEYS     subjects, each once; then in the same order where each one's days are kept
-- ARGV[1]  limits, each once, packed as lua/limits.lua says
-- ARGV[2]  counts by days, which are kept if they are over: for each <I2I2I2 I5> index of its
--          subject, index of its limit, index of the quota whose rest is kept with it (from 1; 0
--          where there is none), and under which id
-- ARGV[3]  changes: for each <B I2I2 d I5> what, index of the subject, index of the limit, how much,
--          and under which id is kept what was granted: that of its days, if they are kept
--            1 of a quota so much is left from now on
--            2 of a quota so much more is left
--            3 of a quota so much was not used
--            4 a quota is whole again, a bucket is empty
-- Returns  Redis' now in us; and 1 where it was done, 2 where now lies outside a quota's windows
--
-- Kept days are one string beside the subject, <B> format version (1) and for each
--   <I5 I2 i7 i7>  id, day since 1970, units used, units left of the quota then
-- in the order in which they were kept. Under the id less 1 stands instead what was granted in the
-- window that begins on that day and is not over: a quota's own row tells only what is left of it.
-- Twin of src/algorithm/days.rs.

local DAYS_FORMAT_VERSION = 1
local DAY_ROW_SIZE = 21
-- What is left where there is no quota.
local NO_QUOTA = 2 ^ 54
-- The most that a correction makes of a count, up or down: sums with it stay exact.
local MAX_CORRECTED_COUNT = 2 ^ 52

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local subjects = #KEYS / 2
local rows_of, days_by_key = {}, {}
for i, rows in ipairs(mget_all(KEYS)) do
  if i <= subjects then
    rows_of[i] = rows
  else
    days_by_key[i - subjects] = rows
  end
end
local limits = unpack_limits(ARGV[1], now)
for _, limit in ipairs(limits) do
  if limit[QUOTA] and not limit[WINDOW] then
    return { now, 2 }
  end
end

local needed, changed_days = {}, {}

local function write(key, row, place, till)
  rows_of[key] = put_row(rows_of[key], place, row)
  needed[key] = math.max(needed[key] or 0, till)
end

-- Calls `visit` with place, id, day, and both numbers of each row of `days`.
local function each_day(days, visit)
  if days and byte(days) ~= DAYS_FORMAT_VERSION then
    error('these days have format ' .. byte(days) .. ', and this version knows ' .. DAYS_FORMAT_VERSION)
  end
  for offset = 2, days and #days or 0, DAY_ROW_SIZE do
    visit(offset, unpack_from('<I5I2i7i7', days, offset))
  end
end

-- `days` with one more row, under `id` and of the day `day`, in place of what was granted on
-- it; without those that are too old to be told on the day `today`.
local function with_day(days, id, day, row, today)
  local rows = { string.char(DAYS_FORMAT_VERSION) }
  each_day(days, function(offset, other, when)
    if when >= today - USAGE_RETENTION_SECS / 86400 and not (other == id - 1 and when == day) then
      rows[#rows + 1] = sub(days, offset, offset + DAY_ROW_SIZE - 1)
    end
  end)
  rows[#rows + 1] = row
  return table.concat(rows)
end

local function granted(days, id, day)
  local sum = 0
  each_day(days, function(_, other, when, amount)
    if other == id - 1 and when == day then
      sum = sum + amount
    end
  end)
  return sum
end

local function close_day(key, count, quota, id)
  local rows = rows_of[key]
  local place = rows and find_row(rows, count[ID])
  if not place then
    return
  end
  local used, window = unpack_from('<i7I5', rows, place + 5)
  if window >= count[WINDOW] then
    return
  end
  local remaining = NO_QUOTA
  if quota then
    -- Nobody has charged the quota since that day: they are charged together.
    local offset = find_row(rows, quota[ID])
    remaining = quota[SIZE] - (offset and unpack_from('<i7', rows, offset + 5) or 0)
  end
  local day = window / 86400
  local row = pack('<I5I2i7i7', id, day, used + granted(days_by_key[key], id, day), remaining)
  days_by_key[key] = with_day(days_by_key[key], id, day, row, count[WINDOW] / 86400)
  changed_days[key] = true
  -- Not removed: the window that counts must not begin a second time if the clock steps back.
  write(key, quota_row(count[ID], 0, count[WINDOW]), place, count[ENDS])
end

-- Remembers that the count's row says so much less than was used in its window.
local function grant(key, id, day, amount)
  local row = pack('<I5I2i7i7', id - 1, day, granted(days_by_key[key], id, day) + amount, 0)
  days_by_key[key] = with_day(days_by_key[key], id, day, row, day)
  changed_days[key] = true
end

local function change_quota(what, key, limit, amount, id)
  local rows = rows_of[key]
  local place = rows and find_row(rows, limit[ID])
  local used, window = current_count(rows, place, limit[WINDOW])
  local day, after = window / 86400
  if what == 1 then
    after = limit[SIZE] - amount
  elseif what == 2 then
    after = used - amount
  elseif what == 3 then
    local actual = used + granted(days_by_key[key], id, day)
    after = used - math.min(amount, math.max(0, actual))
  else
    after = 0
  end
  after = math.max(-MAX_CORRECTED_COUNT, math.min(MAX_CORRECTED_COUNT, after))
  if what ~= 3 and after ~= used then
    grant(key, id, day, used - after)
  end
  write(key, quota_row(limit[ID], after, window), place, limit[ENDS])
end

-- As by another rate: what was charged before gives nothing back any more.
local function empty_bucket(key, limit)
  local rows = rows_of[key]
  local place = rows and find_row(rows, limit[ID])
  if place then
    local since = floor(now / TICK_MICROS) + 1
    write(key, pack('<I5I7I7I5I5I4', limit[ID], 0, now, limit[PER], limit[DRAIN], since), place, 0)
  end
end

local from = 1
while from <= #ARGV[2] do
  local key, count, quota, id
  key, count, quota, id, from = unpack_from('<I2I2I2I5', ARGV[2], from)
  -- Days that cannot be read stay as they are; the checks that would write over them fail.
  pcall(close_day, key, limits[count], limits[quota], id)
end

from = 1
while from <= #ARGV[3] do
  local what, key, index, amount, id
  what, key, index, amount, id, from = unpack_from('<BI2I2dI5', ARGV[3], from)
  if limits[index][QUOTA] then
    change_quota(what, key, limits[index], amount, id)
  elseif what == 4 then
    empty_bucket(key, limits[index])
  end
end

for key, till in pairs(needed) do
  store_rows(KEYS[key], rows_of[key], till, now)
end
for key in pairs(changed_days) do
  local till = floor(now / 1000000) + USAGE_RETENTION_SECS + 86400
  redis.call('SET', KEYS[subjects + key], days_by_key[key], 'PXAT', string.format('%.0f', till * 1000))
end
return { now, 1 }
