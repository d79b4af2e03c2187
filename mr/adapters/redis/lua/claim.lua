-- claim v5: ask for the right to run a task; equivalent to mr.protocol.claims.grant.
-- KEYS: 1 claims (hash), 2 splits (hash)
-- ARGV: 1 task id, 2 worker, 3 incarnation, 4 lease in milliseconds, 5 nonce of this call,
--       6 '1' when the task needs a split
-- Returns {verdict, attempt, split or nil, how often the job was resumed}; the same call, sent twice, gets the
-- same grant.
-- uses: time, claims
if not is_open(KEYS[1]) then
  return {'gone', 0, false, 0}
end
local split = redis.call('HGET', KEYS[2], ARGV[1])
if ARGV[6] == '1' and not split then
  return {'gone', 0, false, 0}
end
local claim = read_claim(KEYS[1], ARGV[1]) or new_claim()
if claim[3] > 0 then
  return {'committed', claim[3], false, 0}
end
local now = now_ms()
local latest_ms = now + tonumber(ARGV[4])
local holders = {}
local alive = 0
local mine = false
local shortened = false
for _, holder in ipairs(claim[5]) do
  if holder[5] == ARGV[5] then
    return {'granted', holder[3], split, times_resumed(KEYS[1])}
  end
  -- A lease that lasts longer was given before the clock was set back.
  if holder[4] > latest_ms then
    holder[4] = latest_ms
    shortened = true
  end
  if holder[4] == 0 then
    holders[#holders + 1] = holder
  elseif holder[4] > now then
    holders[#holders + 1] = holder
    alive = alive + 1
    mine = mine or holder[1] == ARGV[2]
  end
end
if mine or alive >= (claim[4] and 2 or 1) then
  if shortened then
    write_claim(KEYS[1], ARGV[1], claim)
  end
  return {'held', 0, false, 0}
end
local attempt = claim[1] + 1
holders[#holders + 1] = {ARGV[2], ARGV[3], attempt, latest_ms, ARGV[5]}
write_claim(KEYS[1], ARGV[1], {attempt, claim[2], 0, claim[4], holders})
return {'granted', attempt, split, times_resumed(KEYS[1])}
