-- A claim is msgpack [attempt, fenced_attempt, winner, speculative, holders],
-- a holder [worker, incarnation, attempt, expires_ms (0 = released), nonce of the call].
-- The field `open` is there while the job may run tasks: 1, and 1 more for each time the job was resumed.
local function is_open(claims)
  return redis.call('HEXISTS', claims, 'open') == 1
end

local function times_resumed(claims)
  return tonumber(redis.call('HGET', claims, 'open') or '1') - 1
end

local function open_claims(claims, resumed)
  redis.call('HSET', claims, 'open', string.format('%d', resumed + 1))
end

-- The claim of a task; nil when nobody has asked for it yet.
local function read_claim(claims, task)
  local packed = redis.call('HGET', claims, task)
  return packed and cmsgpack.unpack(packed) or nil
end

local function new_claim()
  return {0, 0, 0, false, {}}
end

local function write_claim(claims, task, claim)
  redis.call('HSET', claims, task, cmsgpack.pack(claim))
end
