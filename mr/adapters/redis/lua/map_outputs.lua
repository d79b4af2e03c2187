-- map_outputs v1: where a job's map outputs lie, in one string; equivalent to mr.protocol.locations.join_fields.
-- KEYS: 1 locations of map outputs (hash)
-- Returns {number of outputs, msgpack array of all values}: a client reads one string faster than 20,000.
local values = redis.call('HVALS', KEYS[1])
local count = 0
for _, value in ipairs(values) do
  count = count + value:byte(2)
end
return {count, '\221' .. struct.pack('>I4', #values) .. table.concat(values)}
