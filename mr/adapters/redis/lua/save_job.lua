-- save_job v2: write a job's record and those of its changed tasks, in one step.
-- KEYS: 1 job (hash), 2 tasks (hash)
-- ARGV: 1 epoch, 2 generation acknowledged before, 3 record, then task id and record for each changed task
-- Returns the job's new generation, or what `refusal` says: nothing is changed then.
-- uses: fence
local refused = refusal()
if refused then
  return refused
end
redis.call('HSET', KEYS[1], 'record', ARGV[3])
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
return note_write(next_generation())
