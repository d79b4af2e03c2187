-- map_outputs v1: where a job's map outputs lie, in one string; says what mr.protocol.locations.join_fields says.
-- KEYS: 1 locations of map outputs (hash)
-- Returns {number of outputs, msgpack array of all values}: one string is read in one piece, 20,000 are not.
local values = redis.call('HVALS', KEYS[1])
local count = 0
for _, value in ipairs(values) do
  count = count + value:byte(2)
end
return {count, '\221' .. struct.pack('>I4', #values) .. table.concat(values)}
