-- speculate v1: allow tasks a second holder; says what mr.protocol.claims.speculate says.
-- KEYS: 1 job (hash), 2 claims (hash)
-- ARGV: 1 epoch, then the task ids
-- Returns 'ok', or 'deposed' when a higher epoch wrote the job: nothing is changed then.
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') > tonumber(ARGV[1]) then
  return 'deposed'
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
if redis.call('HEXISTS', KEYS[2], 'open') == 0 then
  return 'ok'
end
for i = 2, #ARGV do
  local packed = redis.call('HGET', KEYS[2], ARGV[i])
  local claim = packed and cmsgpack.unpack(packed) or {0, 0, 0, false, {}}
  if claim[3] == 0 then
    claim[4] = true
    redis.call('HSET', KEYS[2], ARGV[i], cmsgpack.pack(claim))
  end
end
return 'ok'
