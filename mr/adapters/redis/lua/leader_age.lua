-- leader_age v1: how long ago a coordinator last said that it leads.
-- KEYS: 1 seen (string)
-- Returns milliseconds, or nil when none is remembered.
local seen = redis.call('GET', KEYS[1])
if not seen then
  return false
end
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
return math.max(0, now_ms - tonumber(seen))
