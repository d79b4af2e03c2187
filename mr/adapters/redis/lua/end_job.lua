-- end_job v2: write the final records, close the claims, delete what nobody needs, let the rest expire.
-- KEYS: 1 job (hash), 2 tasks (hash), 3 logs (hash), 4 results of the parts (hash),
--       5 and more: what is deleted (claims, spec, splits, locations, results of maps that are no parts)
-- ARGV: 1 epoch, 2 generation acknowledged before, 3 record, 4 history in milliseconds,
--       then task id and record for each task
-- Returns the job's new generation, or 'deposed' when a higher epoch wrote the job: nothing is changed then.
-- A store that has lost what it had acknowledged is given everything that an ended job leaves.
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') > tonumber(ARGV[1]) then
  return 'deposed'
end
local generation = math.max(tonumber(redis.call('HGET', KEYS[1], 'generation') or '0'), tonumber(ARGV[2])) + 1
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'record', ARGV[3], 'generation', string.format('%d', generation))
for i = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
for i = 5, #KEYS do
  redis.call('DEL', KEYS[i])
end
for i = 1, 4 do
  redis.call('PEXPIRE', KEYS[i], ARGV[4])
end
return generation
