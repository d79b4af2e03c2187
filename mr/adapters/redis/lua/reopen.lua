-- reopen v4: declare committed map outputs lost; equivalent to mr.protocol.claims.is_placed and reopen.
-- KEYS: 1 job (hash), 2 claims (hash), 3 results of maps (hash), 4 locations of map outputs (hash)
-- ARGV: 1 epoch, 2 generation acknowledged before, then task id, lost attempt and the incarnation that held it
--       for each
-- Returns the job's new generation, or what `refusal` says: nothing is changed then.
-- uses: fence, claims
local refused = refusal()
if refused then
  return refused
end
-- Whether a result is a map output, which lies where the caller saw it; a part lies in no worker's spool.
local function is_placed(result, attempt, incarnation)
  local output = cmsgpack.unpack(result).output
  return output.type == 'map' and output.attempt[3] == attempt and output.incarnation == incarnation
end

for i = 3, is_open(KEYS[2]) and #ARGV or 0, 3 do
  local claim = read_claim(KEYS[2], ARGV[i])
  local attempt = tonumber(ARGV[i + 1])
  if claim and claim[3] > 0 and claim[3] == attempt then
    local result = redis.call('HGET', KEYS[3], ARGV[i])
    if not result or is_placed(result, attempt, ARGV[i + 2]) then
      write_claim(KEYS[2], ARGV[i], {claim[1], claim[1], 0, false, {}})
      redis.call('HDEL', KEYS[3], ARGV[i])
      redis.call('HDEL', KEYS[4], ARGV[i])
    end
  end
end
return note_write(next_generation())
