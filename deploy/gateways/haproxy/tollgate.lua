-- Calls Tollgate for each request and stores the response in variables of the transaction:
-- tollgate_status (0 without a response), _after, _millis, _retry, _policy, _state, _key, _plan.

local URL = "http://127.0.0.1:8080/authz?api=inference&stage=prod"
local TIMEOUT_MS = 500

local function first(headers, name)
  local values = headers[name]
  return values and values[0]
end

core.register_action("tollgate", { "http-req" }, function(txn)
  local sent = txn.http:req_get_headers()
  local request = {
    host = { "tollgate" },
    -- The client's actual request; headers that it sends are overwritten.
    ["x-forwarded-method"] = { txn.f:method() },
    ["x-forwarded-uri"] = { txn.f:pathq() },
  }
  for _, name in ipairs({ "x-api-key", "authorization" }) do
    if sent[name] then
      request[name] = {}
      for _, value in pairs(sent[name]) do
        table.insert(request[name], value)
      end
    end
  end
  local response = core.httpclient():get({ url = URL, headers = request, timeout = TIMEOUT_MS })
  local status = response and response.status or 0
  local headers = response and response.headers or {}
  -- Without a response HAProxy itself makes a 503 or 504; Tollgate's own are problem+json.
  if status >= 500 and first(headers, "content-type") ~= "application/problem+json" then
    status = 0
  end
  txn:set_var("txn.tollgate_status", status)
  local variables = {
    after = "retry-after",
    millis = "retry-after-ms",
    retry = "x-should-retry",
    policy = "ratelimit-policy",
    state = "ratelimit",
    key = "x-tollgate-key-id",
    plan = "x-tollgate-plan",
  }
  for variable, name in pairs(variables) do
    local value = first(headers, name)
    if value then
      txn:set_var("txn.tollgate_" .. variable, value)
    end
  end
end)
