-- renew v2: extend the leases of running attempts; says what mr.protocol.claims.renew says.
-- KEYS: 1 claims (hash)
-- ARGV: 1 incarnation, 2 lease in milliseconds, then task id and attempt for each
-- Returns the ids of the tasks that are to stop.
local open = redis.call('HEXISTS', KEYS[1], 'open') == 1
local time = redis.call('TIME')
local expires_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[2])
local stopped = {}
for i = 3, #ARGV, 2 do
  local packed = open and redis.call('HGET', KEYS[1], ARGV[i])
  local held = false
  if packed then
    local claim = cmsgpack.unpack(packed)
    for _, holder in ipairs(claim[5]) do
      if holder[3] == tonumber(ARGV[i + 1]) and holder[2] == ARGV[1] and holder[4] ~= 0 then
        holder[4] = expires_ms
        held = true
      end
    end
    if held then
      redis.call('HSET', KEYS[1], ARGV[i], cmsgpack.pack(claim))
    end
  end
  if not held then
    stopped[#stopped + 1] = ARGV[i]
  end
end
return stopped
