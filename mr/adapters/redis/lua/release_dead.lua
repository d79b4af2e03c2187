-- release_dead v1: give the leases of dead lives back; says what mr.protocol.claims.release_dead says.
-- KEYS: 1 job (hash), 2 claims (hash)
-- ARGV: 1 epoch, 2 generation acknowledged before, 3 released leases that are kept, then task id and incarnation
-- Returns the job's new generation, or 'deposed' when a higher epoch wrote the job, or 'behind' when the
-- store has lost what it had acknowledged: nothing is changed then.
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') > tonumber(ARGV[1]) then
  return 'deposed'
end
if tonumber(redis.call('HGET', KEYS[1], 'generation') or '0') < tonumber(ARGV[2]) then
  return 'behind'
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
local open = redis.call('HEXISTS', KEYS[2], 'open') == 1
for i = 4, #ARGV, 2 do
  local packed = open and redis.call('HGET', KEYS[2], ARGV[i])
  if packed then
    local claim = cmsgpack.unpack(packed)
    local released, running = {}, {}
    for _, holder in ipairs(claim[5]) do
      if holder[2] == ARGV[i + 1] then
        holder[4] = 0
      end
      local list = holder[4] == 0 and released or running
      list[#list + 1] = holder
    end
    local holders = {}
    for j = math.max(1, #released - tonumber(ARGV[3]) + 1), #released do
      holders[#holders + 1] = released[j]
    end
    for _, holder in ipairs(running) do
      holders[#holders + 1] = holder
    end
    claim[5] = holders
    redis.call('HSET', KEYS[2], ARGV[i], cmsgpack.pack(claim))
  end
end
return redis.call('HINCRBY', KEYS[1], 'generation', 1)
