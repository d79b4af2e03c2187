-- end_job v3: write the final records, close the claims, delete what is no longer needed, let the rest expire.
-- KEYS: 1 job (hash), 2 tasks (hash), 3 logs (hash), 4 results that are the parts (hash), then what only a resume
--       needs: 5 claims, 6 spec, 7 splits, 8 locations, 9 the results of the other kind of task
-- ARGV: 1 epoch, 2 generation acknowledged before, 3 record, 4 history in milliseconds,
--       5 for how long the job can be resumed in milliseconds, 6 '1' when its map outputs are kept for that,
--       then task id and record for each task
-- Returns the job's new generation, or 'deposed' when a higher epoch wrote the job: nothing is changed then.
-- It is right for a store that has lost acknowledged writes, too: everything that an ended job leaves is here.
-- uses: fence
-- A key of another type than it should have cannot be written: it goes first, so that every job can be ended.
for i = 1, 4 do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'hash' and kind ~= 'none' then
    redis.call('DEL', KEYS[i])
  end
end
if is_deposed() then
  return 'deposed'
end
redis.call('HSET', KEYS[1], 'record', ARGV[3])
for i = 7, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
redis.call('HDEL', KEYS[5], 'open')
for i = 5, #KEYS do
  if tonumber(ARGV[5]) > 0 and (i < 8 or ARGV[6] == '1') then
    redis.call('PEXPIRE', KEYS[i], ARGV[5])
  else
    redis.call('DEL', KEYS[i])
  end
end
local new_generation = note_write(next_generation())
for i = 1, 4 do
  redis.call('PEXPIRE', KEYS[i], ARGV[4])
end
return new_generation
