-- release_dead v1: give back the leases of dead workers; equivalent to mr.protocol.claims.release_dead.
-- KEYS: 1 job (hash), 2 claims (hash)
-- ARGV: 1 epoch, 2 generation acknowledged before, 3 how many released leases are kept,
--       then task id and incarnation for each
-- Returns the job's new generation, or what `refusal` says: nothing is changed then.
-- uses: fence, claims, release
local refused = refusal()
if refused then
  return refused
end
for i = 4, is_open(KEYS[2]) and #ARGV or 0, 2 do
  local claim = read_claim(KEYS[2], ARGV[i])
  if claim then
    local incarnation = ARGV[i + 1]
    release_holders(claim, function(holder) return holder[2] == incarnation end, tonumber(ARGV[3]))
    write_claim(KEYS[2], ARGV[i], claim)
  end
end
return note_write(next_generation())
