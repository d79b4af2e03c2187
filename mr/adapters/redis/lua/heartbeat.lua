-- heartbeat v2: record a worker's heartbeat by the store's clock, unless another incarnation has its id.
-- KEYS: 1 worker (hash, expires)
-- ARGV: 1 beat, 2 incarnation, 3 number of the beat, 4 lease in milliseconds, 5 memory in milliseconds,
--       6 and 7 incarnation and number of the owner's last beat, which this one replaces (empty: none)
-- Returns {time in milliseconds}, or what is known of the owner: {time, beat, incarnation, number, its time,
-- its lease}.
-- uses: time
local now = now_ms()
local beat, owner, number, at_ms, lease_ms, former, former_ms = unpack(redis.call('HMGET', KEYS[1],
  'beat', 'incarnation', 'number', 'at_ms', 'lease_ms', 'former', 'former_ms'))
if owner and tonumber(at_ms) > now then  -- the clock was set back since then
  at_ms = string.format('%d', now)
  redis.call('HSET', KEYS[1], 'at_ms', at_ms)
end
local until_ms = owner and tonumber(at_ms) + tonumber(lease_ms)
number = number or '0'
if owner and owner ~= ARGV[2] and until_ms > now then
  if owner == ARGV[6] and number == ARGV[7] then
    redis.call('HSET', KEYS[1], 'former', owner, 'former_ms', string.format('%d', until_ms))
  elseif former == ARGV[2] and tonumber(former_ms) > now then
    redis.call('HDEL', KEYS[1], 'former', 'former_ms')
  else
    return {now, beat, owner, number, at_ms, lease_ms}
  end
end
redis.call('HSET', KEYS[1], 'beat', ARGV[1], 'incarnation', ARGV[2], 'number', ARGV[3], 'lease_ms', ARGV[4],
  'at_ms', string.format('%d', now))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {now}
