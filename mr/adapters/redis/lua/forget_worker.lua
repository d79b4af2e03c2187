-- forget_worker v1: remove a worker, unless another incarnation has its id.
-- KEYS: 1 worker (hash, expires)
-- ARGV: 1 incarnation
-- Returns 1 when removed, else 0.
if redis.call('HGET', KEYS[1], 'incarnation') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
