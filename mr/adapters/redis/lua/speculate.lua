-- speculate v2: allow tasks a second holder; equivalent to mr.protocol.claims.speculate.
-- KEYS: 1 job (hash), 2 claims (hash)
-- ARGV: 1 epoch, 2 generation acknowledged before, then the task ids
-- Returns the job's new generation, or what `refusal` says: nothing is changed then.
-- uses: fence, claims
local refused = refusal()
if refused then
  return refused
end
for i = 3, is_open(KEYS[2]) and #ARGV or 0 do
  local claim = read_claim(KEYS[2], ARGV[i]) or new_claim()
  if claim[3] == 0 then
    claim[4] = true
    write_claim(KEYS[2], ARGV[i], claim)
  end
end
return note_write(next_generation())
