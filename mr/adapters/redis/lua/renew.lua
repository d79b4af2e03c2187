-- renew v2: extend the leases of running attempts; equivalent to mr.protocol.claims.renew.
-- KEYS: 1 claims (hash)
-- ARGV: 1 incarnation, 2 lease in milliseconds, then task id and attempt for each
-- Returns the ids of the tasks whose attempts must stop.
-- uses: time, claims
local open = is_open(KEYS[1])
local expires_ms = now_ms() + tonumber(ARGV[2])
local stopped = {}
for i = 3, #ARGV, 2 do
  local claim = open and read_claim(KEYS[1], ARGV[i]) or new_claim()
  local held = false
  for _, holder in ipairs(claim[5]) do
    if holder[3] == tonumber(ARGV[i + 1]) and holder[2] == ARGV[1] and holder[4] ~= 0 then
      holder[4] = expires_ms
      held = true
    end
  end
  if held then
    write_claim(KEYS[1], ARGV[i], claim)
  else
    stopped[#stopped + 1] = ARGV[i]
  end
end
return stopped
