-- name_code v1: keep stored code for good, under a name.
-- KEYS: 1 code (hash)
-- ARGV: 1 name
-- Returns 1, or 0 when there is no such code.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'name:' .. ARGV[1], '1')
redis.call('PERSIST', KEYS[1])
return 1
