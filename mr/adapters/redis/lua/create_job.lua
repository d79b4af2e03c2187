-- create_job v3: write a new job and open its claims, at once or not at all.
-- KEYS: 1 job (hash), 2 spec (string), 3 splits (hash), 4 claims (hash)
-- ARGV: 1 epoch, 2 nonce of this call, 3 record, 4 spec, then task id and split for each map task
-- Returns the job's generation, 1 (also to the same call sent twice), or 'exists'.
-- uses: claims
if redis.call('EXISTS', KEYS[1]) == 1 then
  if redis.call('HGET', KEYS[1], 'nonce') == ARGV[2] then
    return 1
  end
  return 'exists'
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'nonce', ARGV[2], 'record', ARGV[3], 'generation', '1')
redis.call('SET', KEYS[2], ARGV[4])
for i = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
open_claims(KEYS[4], 0)
return 1
