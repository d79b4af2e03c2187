-- leader_age v1: how long ago a coordinator last confirmed its lead.
-- KEYS: 1 seen (string)
-- Returns milliseconds, or nil when none is remembered.
-- uses: time
local seen = redis.call('GET', KEYS[1])
return seen and math.max(0, now_ms() - tonumber(seen))
