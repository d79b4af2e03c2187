-- Give back the leases of the holders for which has_ended(holder); of the released ones the last `kept` stay.
local function release_holders(claim, has_ended, kept)
  local released, running = {}, {}
  for _, holder in ipairs(claim[5]) do
    if has_ended(holder) then
      holder[4] = 0
    end
    local list = holder[4] == 0 and released or running
    list[#list + 1] = holder
  end
  local holders = {}
  for i = math.max(1, #released - kept + 1), #released do
    holders[#holders + 1] = released[i]
  end
  for _, holder in ipairs(running) do
    holders[#holders + 1] = holder
  end
  claim[5] = holders
end
