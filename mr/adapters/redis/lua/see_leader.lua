-- see_leader v1: note that a coordinator has said that it leads.
-- KEYS: 1 seen (string)
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('SET', KEYS[1], string.format('%d', now_ms))
