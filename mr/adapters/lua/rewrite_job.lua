-- rewrite_job v1: write a whole unfinished job back into a store that lost it; one still there stays.
-- KEYS: 1 job (hash), 2 spec (string), 3 claims (hash), 4 splits, 5 tasks, 6 results of maps,
--       7 results of reduces, 8 locations of map outputs (hashes)
-- ARGV: 1 epoch, 2 record, 3 spec, then for each entry: number of its key (3 to 8), field, value
-- Returns 'ok', or 'deposed' when a higher epoch wrote the job: nothing is changed then.
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') > tonumber(ARGV[1]) then
  return 'deposed'
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
if redis.call('HEXISTS', KEYS[3], 'open') == 1 then
  return 'ok'
end
redis.call('HSET', KEYS[1], 'record', ARGV[2])
redis.call('SET', KEYS[2], ARGV[3])
for i = 4, #ARGV, 3 do
  redis.call('HSET', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2])
end
for i = 1, #KEYS do
  redis.call('PERSIST', KEYS[i])
end
redis.call('HSET', KEYS[3], 'open', '1')
return 'ok'
