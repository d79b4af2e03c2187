-- heartbeat v1: record a worker's heartbeat by the store's clock.
-- KEYS: 1 worker (hash, expires)
-- ARGV: 1 beat, 2 incarnation, 3 lease in milliseconds, 4 memory in milliseconds
-- Returns the time in milliseconds.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], 'beat', ARGV[1], 'incarnation', ARGV[2], 'lease_ms', ARGV[3],
  'at_ms', string.format('%d', now_ms))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return now_ms
