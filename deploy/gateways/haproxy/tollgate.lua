-- Asks Tollgate for each request and leaves its answer in variables of the transaction:
-- tollgate_status (0 where there was none), _after, _policy, _state, _key, _plan.

local URL = "http://127.0.0.1:8080/authz?api=inference&stage=prod"
local TIMEOUT_MS = 500

local function first(headers, name)
  local values = headers[name]
  return values and values[0]
end

core.register_action("tollgate", { "http-req" }, function(txn)
  local sent = txn.http:req_get_headers()
  local ask = {
    host = { "tollgate" },
    -- What the client really asks for, whatever headers it sent.
    ["x-forwarded-method"] = { txn.f:method() },
    ["x-forwarded-uri"] = { txn.f:pathq() },
  }
  for _, name in ipairs({ "x-api-key", "authorization" }) do
    if sent[name] then
      ask[name] = {}
      for _, value in pairs(sent[name]) do
        table.insert(ask[name], value)
      end
    end
  end
  local answer = core.httpclient():get({ url = URL, headers = ask, timeout = TIMEOUT_MS })
  local status = answer and answer.status or 0
  local headers = answer and answer.headers or {}
  -- HAProxy itself says 503 or 504 where nobody answers; Tollgate's own have a problem to tell.
  if status >= 500 and first(headers, "content-type") ~= "application/problem+json" then
    status = 0
  end
  txn:set_var("txn.tollgate_status", status)
  local wanted = {
    after = "retry-after",
    policy = "ratelimit-policy",
    state = "ratelimit",
    key = "x-tollgate-key-id",
    plan = "x-tollgate-plan",
  }
  for variable, name in pairs(wanted) do
    local value = first(headers, name)
    if value then
      txn:set_var("txn.tollgate_" .. variable, value)
    end
  end
end)
