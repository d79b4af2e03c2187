-- put_code v1: store code for a time, or keep what is stored for longer. Code that has a name stays for good.
-- KEYS: 1 code (hash)
-- ARGV: 1 bundle, 2 manifest, 3 time to keep it in milliseconds
-- Returns 1.
local left_ms = redis.call('PTTL', KEYS[1])
redis.call('HSET', KEYS[1], 'bundle', ARGV[1], 'manifest', ARGV[2])
if left_ms ~= -1 and left_ms < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
