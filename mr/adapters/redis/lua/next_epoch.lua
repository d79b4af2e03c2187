-- next_epoch v2: make an epoch above all earlier ones and above a given one.
-- KEYS: 1 epoch (string: the epoch, then the nonce of the call that made it)
-- ARGV: 1 the given epoch, 2 nonce of this call
-- Returns the new epoch; the same call, sent twice, gets the same.
local stored = redis.call('GET', KEYS[1]) or '0'
local highest, nonce = string.match(stored, '^(%d+) ?(.*)$')
if nonce == ARGV[2] then
  return tonumber(highest)
end
local epoch = math.max(tonumber(highest), tonumber(ARGV[1])) + 1
redis.call('SET', KEYS[1], string.format('%d %s', epoch, ARGV[2]))
return epoch
