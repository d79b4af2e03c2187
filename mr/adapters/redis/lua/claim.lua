-- claim v3: ask for the right to run a task; says what mr.protocol.claims.grant says.
-- KEYS: 1 claims (hash), 2 splits (hash), 3 results of the task's kind (hash)
-- ARGV: 1 task id, 2 worker, 3 incarnation, 4 lease in milliseconds, 5 nonce of this call,
--       6 '1' when the task needs a split
-- A claim is msgpack [attempt, fenced_attempt, winner, speculative, holders],
-- a holder [worker, incarnation, attempt, expires_ms (0 = released), nonce].
-- Returns {verdict, attempt, split or nil, result or nil}; the same call sent twice gets the same grant.
if redis.call('HEXISTS', KEYS[1], 'open') == 0 then
  return {'gone', 0, false, false}
end
local split = redis.call('HGET', KEYS[2], ARGV[1])
if ARGV[6] == '1' and not split then
  return {'gone', 0, false, false}
end
local packed = redis.call('HGET', KEYS[1], ARGV[1])
local claim = packed and cmsgpack.unpack(packed) or {0, 0, 0, false, {}}
if claim[3] > 0 then
  return {'committed', claim[3], false, redis.call('HGET', KEYS[3], ARGV[1])}
end
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local latest_ms = now_ms + tonumber(ARGV[4])
local holders = {}
local alive = 0
local mine = false
local shortened = false
for _, holder in ipairs(claim[5]) do
  if holder[5] == ARGV[5] then
    return {'granted', holder[3], split, false}
  end
  -- No lease is longer than that: it was given before the clock was set back.
  if holder[4] > latest_ms then
    holder[4] = latest_ms
    shortened = true
  end
  if holder[4] == 0 then
    holders[#holders + 1] = holder
  elseif holder[4] > now_ms then
    holders[#holders + 1] = holder
    alive = alive + 1
    mine = mine or holder[1] == ARGV[2]
  end
end
if mine or alive >= (claim[4] and 2 or 1) then
  if shortened then
    redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(claim))
  end
  return {'held', 0, false, false}
end
local attempt = claim[1] + 1
holders[#holders + 1] = {ARGV[2], ARGV[3], attempt, latest_ms, ARGV[5]}
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack({attempt, claim[2], 0, claim[4], holders}))
return {'granted', attempt, split, false}
