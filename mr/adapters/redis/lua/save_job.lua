-- save_job v2: write a job's record and those of its changed tasks, in one step.
-- KEYS: 1 job (hash), 2 tasks (hash)
-- ARGV: 1 epoch, 2 generation acknowledged before, 3 record, then task id and record for each changed task
-- Returns the job's new generation, or 'deposed' when a higher epoch wrote the job, or 'behind' when the
-- store has lost what it had acknowledged: nothing is changed then.
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') > tonumber(ARGV[1]) then
  return 'deposed'
end
if tonumber(redis.call('HGET', KEYS[1], 'generation') or '0') < tonumber(ARGV[2]) then
  return 'behind'
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'record', ARGV[3])
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
return redis.call('HINCRBY', KEYS[1], 'generation', 1)
