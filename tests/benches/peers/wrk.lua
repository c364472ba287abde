-- wrk URL -- FILE TEXT: sends the requests in FILE in turn, each of which ends with a zero byte, and prints a line of JSON. A
-- response is right if its status is 200 and it contains TEXT.

local requests, text, sent, threads = {}, "", 0, {}
wrong = 0

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  for request in file:read("*a"):gmatch("(%Z+)%z") do table.insert(requests, request) end
  file:close()
  text = arguments[2]
end

function request()
  sent = sent % #requests + 1
  return requests[sent]
end

function response(status, _, body)
  if status ~= 200 or not body:find(text, 1, true) then wrong = wrong + 1 end
end

function done(summary, latency)
  local errors, wrong = summary.errors, 0
  for _, thread in ipairs(threads) do wrong = wrong + thread:get("wrong") end
  io.write(string.format(
    '\n{"answers": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "wrong": %d, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, wrong,
    errors.connect + errors.read + errors.write + errors.timeout))
end
