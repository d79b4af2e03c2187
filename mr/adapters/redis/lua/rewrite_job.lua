-- rewrite_job v3: bring an unfinished job up to what its coordinator knows, in a store that has lost writes.
-- KEYS: 1 job (hash), 2 spec (string), 3 claims (hash), 4 splits, 5 tasks, 6 results of maps,
--       7 results of reduces, 8 locations of map outputs, 9 logs (hashes)
-- ARGV: 1 epoch, 2 generation acknowledged before, 3 lease in milliseconds, 4 record, 5 spec,
--       6 how often the job was resumed, 7 number of claims; for each claim: task id, claim, number of its results' key (6 or 7), result or '',
--       its location, field and value of its place ('' where there are none);
--       then for each further entry: number of its key (4 or 5), field, value
-- Claims are raised by the rules of mr.protocol.claims.catch_up; what the store knows beyond that stays.
-- Returns the job's new generation, or 'deposed' when a higher epoch wrote the job: nothing is changed then.
-- uses: time, fence, claims
if is_deposed() then
  return 'deposed'
end
local new_generation = next_generation()  -- read before the job is deleted
-- Claims of the time before the job was resumed say nothing about it now.
if not is_open(KEYS[3]) or times_resumed(KEYS[3]) < tonumber(ARGV[6]) then
  for i = 1, #KEYS do
    redis.call('DEL', KEYS[i])
  end
end
local expires_ms = now_ms() + tonumber(ARGV[3])

local function fits(holder, released, running)
  for _, other in ipairs(released) do
    if other[3] == holder[3] then
      return false
    end
  end
  for _, other in ipairs(running) do
    if other[1] == holder[1] or other[3] == holder[3] then
      return false
    end
  end
  return true
end

local function catch_up(claim, known)
  local attempt, fenced_attempt = math.max(claim[1], known[1]), math.max(claim[2], known[2])
  for _, winner in ipairs({claim[3], known[3]}) do
    if winner > fenced_attempt then
      return {attempt, fenced_attempt, winner, false, {}}
    end
  end
  local speculative = claim[4] or known[4]
  local released, running = {}, {}
  for _, holder in ipairs(claim[5]) do
    if holder[3] > fenced_attempt then
      local list = holder[4] == 0 and released or running
      list[#list + 1] = holder
    end
  end
  for _, holder in ipairs(known[5]) do
    local is_wanted = holder[4] ~= 0 and holder[3] > fenced_attempt and #running < (speculative and 2 or 1)
    if is_wanted and fits(holder, released, running) then
      running[#running + 1] = {holder[1], holder[2], holder[3], expires_ms, ''}
    end
  end
  for _, holder in ipairs(running) do
    released[#released + 1] = holder
  end
  return {attempt, fenced_attempt, 0, speculative, released}
end

local last_claim = 7 + 7 * tonumber(ARGV[7])
for i = 8, last_claim, 7 do
  local before = read_claim(KEYS[3], ARGV[i]) or new_claim()
  local after = catch_up(before, cmsgpack.unpack(ARGV[i + 1]))
  local results = KEYS[tonumber(ARGV[i + 2])]
  if after[3] == 0 then
    redis.call('HDEL', results, ARGV[i])
    redis.call('HDEL', KEYS[8], ARGV[i])
  elseif before[3] <= after[2] then
    redis.call('HSET', results, ARGV[i], ARGV[i + 3])
    if ARGV[i + 4] ~= '' then
      redis.call('HSET', KEYS[8], ARGV[i], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
    end
  end
  write_claim(KEYS[3], ARGV[i], after)
end
for i = last_claim + 1, #ARGV, 3 do
  redis.call('HSET', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2])
end
redis.call('HSET', KEYS[1], 'record', ARGV[4])
note_write(new_generation)
redis.call('SET', KEYS[2], ARGV[5])
open_claims(KEYS[3], tonumber(ARGV[6]))
for i = 1, #KEYS do
  redis.call('PERSIST', KEYS[i])
end
return new_generation
