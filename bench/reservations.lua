-- Load for wrk: POST /check/batch with reservations, and POST /reservations/settle with the handles of
-- their answers, in turn. Counts the reservations that were settled.
--
-- Environment: BENCH_KEYS (default 100000), BENCH_BATCH (reservations per body, default 64).

local keys = tonumber(os.getenv("BENCH_KEYS") or "100000")
local batch = tonumber(os.getenv("BENCH_BATCH") or "64")
local check = '{"policy":"tokens","key":"user:%d","cost":{"total_tokens":5296},"reservation":{}}'
local settlement = '{"handle":"%s","actual":{"total_tokens":1618}}'
-- Bodies of settlements that are to be sent.
local settlements, waiting = {}, 0
local reserves, at = {}, 0
-- Global, since `done` reads them from the threads.
settled, bad = 0, 0

local threads = {}

function setup(thread)
  thread:set("seed", #threads)
  table.insert(threads, thread)
end

function init()
  math.randomseed(1000 + seed)
  wrk.headers["Content-Type"] = "application/json"
  for i = 1, 200 do
    local checks = {}
    for j = 1, batch do
      checks[j] = check:format(math.random(keys))
    end
    reserves[i] = wrk.format("POST", "/check/batch", nil, '{"checks":[' .. table.concat(checks, ",") .. "]}")
  end
end

function request()
  if waiting > 0 then
    waiting = waiting - 1
    return settlements[waiting + 1]
  end
  at = at % #reserves + 1
  return reserves[at]
end

function response(status, _, body)
  if status ~= 200 then
    bad = bad + 1
    return
  end
  local bodies = {}
  for handle in body:gmatch('"handle":"([^"]+)"') do
    bodies[#bodies + 1] = settlement:format(handle)
  end
  if #bodies > 0 then
    waiting = waiting + 1
    settlements[waiting] = wrk.format("POST", "/reservations/settle", nil,
      '{"reservations":[' .. table.concat(bodies, ",") .. "]}")
  else
    local _, done = body:gsub('"status":200', "")
    settled, bad = settled + done, bad + (done == batch and 0 or 1)
  end
end

function done(summary, latency)
  local pairs_settled, wrong = 0, 0
  for _, thread in ipairs(threads) do
    pairs_settled = pairs_settled + thread:get("settled")
    wrong = wrong + thread:get("bad")
  end
  io.write(string.format("RESULT %d %d %d %d %d %d\n", pairs_settled, summary.duration,
    latency:percentile(50), latency:percentile(99), wrong,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
