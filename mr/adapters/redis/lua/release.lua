-- release v3: give back an attempt's lease; equivalent to mr.protocol.claims.release.
-- KEYS: 1 claims (hash)
-- ARGV: 1 task id, 2 attempt, 3 incarnation, 4 how many released leases are kept
-- Returns 1 when there was a claim, else 0.
-- uses: claims, release
local claim = read_claim(KEYS[1], ARGV[1])
if not claim then
  return 0
end
local attempt, incarnation = tonumber(ARGV[2]), ARGV[3]
local function has_ended(holder) return holder[3] == attempt and holder[2] == incarnation end
release_holders(claim, has_ended, tonumber(ARGV[4]))
write_claim(KEYS[1], ARGV[1], claim)
return 1
