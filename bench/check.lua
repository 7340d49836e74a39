-- Load for wrk: POST /check on many keys, with requests that are built once. Counts unexpected
-- responses, which would make a rate meaningless: by wrk's own count those of 400 and above. If refusals
-- are measured, all but 200 and 429, which costs wrk a table of headers for each response.
--
-- Environment: BENCH_PATH (default /check), BENCH_KEYS (default 100000), BENCH_BODY (a template,
-- %d is the key's number), BENCH_BATCH (checks per body; 0 sends single checks), BENCH_REFUSED (1 if
-- refusals are measured).

local path = os.getenv("BENCH_PATH") or "/check"
local keys = tonumber(os.getenv("BENCH_KEYS") or "100000")
local template = os.getenv("BENCH_BODY") or '{"policy":"bench","key":"user:%d"}'
local batch = tonumber(os.getenv("BENCH_BATCH") or "0")
local refused = os.getenv("BENCH_REFUSED") == "1"
local requests, at = {}, 0
-- Global, since `done` reads it from the threads.
bad = 0

local threads = {}

function setup(thread)
  thread:set("seed", #threads)
  table.insert(threads, thread)
end

local function body()
  if batch == 0 then
    return (template:gsub("%%d", math.random(keys)))
  end
  local checks = {}
  for i = 1, batch do
    checks[i] = template:gsub("%%d", math.random(keys))
  end
  return '{"checks":[' .. table.concat(checks, ",") .. "]}"
end

function init()
  math.randomseed(1000 + seed)
  wrk.headers["Content-Type"] = "application/json"
  for i = 1, batch == 0 and 20000 or 400 do
    requests[i] = wrk.format("POST", path, nil, body())
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

if refused then
  function response(status)
    if status ~= 200 and status ~= 429 then
      bad = bad + 1
    end
  end
end

function done(summary, latency)
  local wrong = summary.errors.status
  if refused then
    wrong = 0
    for _, thread in ipairs(threads) do
      wrong = wrong + (thread:get("bad") or 0)
    end
  end
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), wrong,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
