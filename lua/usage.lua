-- Keeps days of usage that are over; then makes an operator's corrections. All or nothing.
--
-- KEYS     subjects, each once; then in the same order the keys of their days
-- ARGV[1]  limits, each once, packed as lua/limits.lua defines
-- ARGV[2]  counters of daily usage, kept if their day is over: for each <I2I2I2 I7> index
--          of its subject, index of its limit, index of the quota whose remaining units are kept
--          with the day (from 1; 0 if there is none), and the id of its days
-- ARGV[3]  corrections: for each <B I2I2 d I7> change, index of the subject, index of the limit,
--          amount, and the id of the limit's grants: that of its days, if days are kept
--            1 sets the remaining units of a quota
--            2 grants units of a quota
--            3 refunds units of a quota
--            4 resets a quota or a bucket
-- Returns  Redis' now in us; and 1 if it was done, 2 if now lies outside a quota's windows
--
-- Days are one string beside the subject: <B> format version (2), then rows as in
-- lua/subject.lua, with a body of
--
--   3 day      <I2 i7 i7>  day since 1970, units used, units left of the quota at its end
--   4 granted  <I2 i7>     first day of a window that is not over, units granted in it: the quota's
--                          own row holds only the remaining units
--
-- in the order in which they were kept; rows of other kinds are kept. Twin of
-- core/src/judge/usage.rs.

local DAYS_FORMAT = 2
-- Daily usage is kept for so many days.
local USAGE_RETENTION_DAYS = 62
local DAY, GRANTED = 3, 4
-- The units left of a quota if there is none.
local NO_QUOTA = 2 ^ 54

local byte, sub = string.byte, string.sub
local pack, unpack_from = struct.pack, struct.unpack
-- The strings stored under `keys`, in the same order; false for a missing key. In slices, since a
-- Lua call takes no more than some 8,000 arguments.
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

local subjects = #KEYS / 2
local rows_of, days_of = {}, {}
for i, rows in ipairs(mget_all(KEYS)) do
  local read = not rows and redis.pcall('GET', KEYS[i])
  if read and string.find(read.err, 'WRONGTYPE', 1, true) then
    -- MGET reads a key of another type as a missing one. It is damaged, as an empty string is.
    rows = ''
  end
  if i <= subjects then
    rows_of[i] = rows
  else
    days_of[i - subjects] = rows
  end
end
for _, limit in ipairs(limits) do
  if not limit[1](nil, nil, limit, now) then
    return { now, 2 }
  end
end

local needed, kept, damaged = {}, {}, {}

local function write(key, row, place, till)
  rows_of[key] = put_row(rows_of[key], place, row)
  needed[key] = math.max(needed[key] or 0, till)
end

-- `id` with another kind.
local function of_kind(id, kind)
  return id - id % 8192 + kind * 256
end

-- Calls `visit` with the position, end, id and first two numbers of each row of `days`.
local function each_day(days, visit)
  if not days then
    return
  end
  if byte(days) ~= DAYS_FORMAT then
    error('these days have format ' .. tostring(byte(days)) .. ', and this version knows '
      .. DAYS_FORMAT)
  end
  local at, last = 2, #days
  while at <= last do
    local head = unpack_from('<I7', days, at)
    local behind, kind, day, amount = at + 7 + head % 256, byte(days, at + 1) % 32
    if kind == 0 or kind == DAY and head % 256 ~= 16 or kind == GRANTED and head % 256 ~= 9 then
      error('a day has the length ' .. head % 256)
    elseif kind == DAY or kind == GRANTED then
      day, amount = unpack_from('<I2i7', days, at + 7)
    end
    visit(at, behind, head - head % 256, day, amount)
    at = behind
  end
  if at ~= last + 1 then
    error('the last day is cut short')
  end
end

-- `days` with `row` appended, without the units granted under `id` on `day`, and without rows older
-- than the retention as of `today`.
local function with_day(days, id, day, row, today)
  local rows, granted = { string.char(DAYS_FORMAT) }, of_kind(id, GRANTED)
  each_day(days, function(at, behind, other, when)
    local replaced = other == granted and when == day
    if not when or when >= today - USAGE_RETENTION_DAYS and not replaced then
      rows[#rows + 1] = sub(days, at, behind - 1)
    end
  end)
  rows[#rows + 1] = row
  return table.concat(rows)
end

-- The units granted under `id` in the window that begins on `day`.
local function granted(days, id, day)
  local sum = 0
  each_day(days, function(_, _, other, when, amount)
    if other == of_kind(id, GRANTED) and when == day then
      sum = sum + amount
    end
  end)
  return sum
end

local function close_day(key, counter, quota, id)
  local rows = rows_of[key]
  local place = rows and find_row(rows, counter[2])
  local _, current, _, earlier = counter[1](rows, place, counter, now)
  if not earlier then
    return
  end
  local used, window = unpack_from('<i7I5', rows, place + 7)
  local left = NO_QUOTA
  if quota then
    -- The quota has not been charged since that day: both are charged together.
    local at = find_row(rows, quota[2])
    left = quota[5] - (at and unpack_from('<i7', rows, at + 7) or 0)
  end
  local day = window / 86400
  local row = pack('<I7I2i7i7', of_kind(id, DAY) + 16, day,
    used + granted(days_of[key], id, day), left)
  days_of[key] = with_day(days_of[key], id, day, row, current / 86400)
  kept[key] = true
  -- Written as empty, not removed: if the clock steps back, the current window must not begin a
  -- second time.
  local empty, till = counter[9](rows, place, counter, 0, current, now)
  write(key, empty, place, till)
end

-- Removes the rows and days of a subject that cannot be read, since nothing else can repair them: a
-- reset gives up what they say.
local function replace_damaged(key)
  if rows_of[key] and not pcall(find_row, rows_of[key], 0) then
    rows_of[key], damaged[key] = nil, true
  end
  if not pcall(each_day, days_of[key], function() end) then
    days_of[key], damaged[subjects + key] = nil, true
  end
end

local function correct(change, key, limit, amount, id)
  if change == 4 then
    replace_damaged(key)
  end
  local rows, days = rows_of[key], days_of[key]
  local place = rows and find_row(rows, limit[2])
  local granted_on = function(day) return granted(days, id, day) end
  local rare = limit[12]()
  local row, till, day, more = rare.correct(rows, place, limit, change, amount, granted_on, now)
  if not row then
    return
  end
  if day and more ~= 0 then
    local grant = pack('<I7I2i7', of_kind(id, GRANTED) + 9, day, granted_on(day) + more)
    days_of[key] = with_day(days, id, day, grant, day)
    kept[key] = true
  end
  write(key, row, place, till)
  local annexes = functions_of_annexes()
  local _, number, _, numbered_till = annexes.numbers(rows, now)
  if number then
    rows = rows_of[key]
    local at, annex = find_row(rows, limit[2])
    local first, behind, part =
      annexes.part(rows, at, annex, rare.correct_annex(rows, at, annex, limit, change, number))
    if part then
      rows_of[key] = sub(rows, 1, first - 1) .. part .. sub(rows, behind)
      needed[key] = math.max(needed[key], numbered_till)
    end
  end
end

local from = 1
while from <= #ARGV[2] do
  local key, counter, quota, id
  key, counter, quota, id, from = unpack_from('<I2I2I2I7', ARGV[2], from)
  -- Damaged days stay as they are; the checks that would write over them fail.
  pcall(close_day, key, limits[counter], limits[quota], id)
end

from = 1
while from <= #ARGV[3] do
  local change, key, index, amount, id
  change, key, index, amount, id, from = unpack_from('<BI2I2dI7', ARGV[3], from)
  correct(change, key, limits[index], amount, id)
end

for i in pairs(damaged) do
  redis.call('DEL', KEYS[i])
end
for key in pairs(kept) do
  local till = math.floor(now / 1000000) + (USAGE_RETENTION_DAYS + 1) * 86400
  redis.call('SET', KEYS[subjects + key], days_of[key], 'PXAT', string.format('%.0f', till * 1000))
end
local reply = { now, 1 }
