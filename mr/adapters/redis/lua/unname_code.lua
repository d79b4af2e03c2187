-- unname_code v1: take a name away from code; code that has none left expires.
-- KEYS: 1 code (hash)
-- ARGV: 1 name, 2 time to keep it in milliseconds
-- Returns 1 when it had that name, else 0.
if redis.call('HDEL', KEYS[1], 'name:' .. ARGV[1]) == 0 then
  return 0
end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 5) == 'name:' then
    return 1
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
