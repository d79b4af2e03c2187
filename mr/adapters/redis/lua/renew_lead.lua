-- renew_lead v1: extend the coordinator's lease.
-- KEYS: 1 leader (string, expires)
-- ARGV: 1 holder, 2 lease in milliseconds
-- Returns 1, or 0 when the lease is not the holder's any more.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
