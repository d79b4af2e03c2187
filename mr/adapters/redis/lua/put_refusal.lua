-- put_refusal v1: remember a refused request; only the newest are kept.
-- KEYS: 1 refusals (hash, expires), 2 their ids by time (sorted set, expires)
-- ARGV: 1 job id, 2 refusal, 3 how long they are kept in milliseconds, 4 how many are kept
-- uses: time
local now = now_ms()
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[3]))
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1 - tonumber(ARGV[4]))) do
  old[#old + 1] = id
end
for _, id in ipairs(old) do
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
