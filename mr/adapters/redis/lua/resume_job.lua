-- resume_job v1: open an ended job again; its claims change by mr.protocol.claims.resume.
-- KEYS: 1 job (hash), 2 spec (string), 3 claims (hash), 4 splits, 5 tasks, 6 results of maps,
--       7 results of reduces, 8 locations of map outputs, 9 logs (hashes)
-- ARGV: 1 epoch, 2 generation acknowledged before, 3 nonce of this call, 4 record, 5 spec,
--       6 how often the job was resumed, this time included; then for each task: task id, record,
--       attempt known before, '1' when its commit stays, number of its results' key (6 or 7)
-- Returns the job's new generation (also to the same call sent twice), what `refusal` says, or 'gone' when the
-- job is unknown, runs, or is not kept: nothing is changed then.
-- uses: fence, claims
if is_open(KEYS[3]) and redis.call('HGET', KEYS[1], 'nonce') == ARGV[3] then
  return generation()
end
local refused = refusal()
if refused then
  return refused
end
if is_open(KEYS[3]) or redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[4]) < 3 then
  return 'gone'
end
redis.call('HSET', KEYS[1], 'record', ARGV[4], 'nonce', ARGV[3])
redis.call('SET', KEYS[2], ARGV[5])
for i = 7, #ARGV, 5 do
  local task, results = ARGV[i], KEYS[tonumber(ARGV[i + 4])]
  redis.call('HSET', KEYS[5], task, ARGV[i + 1])
  local claim = read_claim(KEYS[3], task) or new_claim()
  local attempt = math.max(claim[1], tonumber(ARGV[i + 2]))
  if ARGV[i + 3] == '1' and claim[3] > 0 and redis.call('HEXISTS', results, task) == 1 then
    write_claim(KEYS[3], task, {attempt, claim[2], claim[3], false, {}})
  else
    redis.call('HDEL', results, task)
    redis.call('HDEL', KEYS[8], task)
    if attempt > 0 then
      write_claim(KEYS[3], task, {attempt, attempt, 0, false, {}})
    end
  end
end
open_claims(KEYS[3], tonumber(ARGV[6]))
for i = 1, #KEYS do
  redis.call('PERSIST', KEYS[i])
end
return note_write(next_generation())
