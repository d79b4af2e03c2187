-- save_job v1: write a job's record and those of its changed tasks, in one step.
-- KEYS: 1 job (hash), 2 tasks (hash)
-- ARGV: 1 epoch, 2 record, then task id and record for each changed task
-- Returns 'ok', or 'deposed' when a higher epoch wrote the job: nothing is changed then.
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') > tonumber(ARGV[1]) then
  return 'deposed'
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'record', ARGV[2])
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
return 'ok'
