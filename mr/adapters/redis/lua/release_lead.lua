-- release_lead v1: end the coordinator's lease, if it is still the holder's.
-- KEYS: 1 leader (string, expires)
-- ARGV: 1 holder
-- Returns 1 when ended, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
