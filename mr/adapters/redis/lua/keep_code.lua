-- keep_code v1: keep stored code for a time from now. Code that has a name stays for good.
-- KEYS: 1 code (hash)
-- ARGV: 1 time to keep it in milliseconds
-- Returns 1, or 0 when there is no such code.
local left_ms = redis.call('PTTL', KEYS[1])
if left_ms == -2 then
  return 0
end
if left_ms ~= -1 and left_ms < tonumber(ARGV[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
