-- next_epoch v1: make an epoch above all before and above a floor.
-- KEYS: 1 epoch (string)
-- ARGV: 1 floor
-- Returns the new epoch.
local epoch = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1])) + 1
redis.call('SET', KEYS[1], string.format('%d', epoch))
return epoch
