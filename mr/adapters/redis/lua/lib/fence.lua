-- The fence before a coordinator's write to a job. What is no number counts as 0.
-- KEYS: 1 job (hash)
-- ARGV: 1 epoch, 2 generation acknowledged before
local function is_deposed()
  return (tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') or 0) > tonumber(ARGV[1])
end

local function generation()
  return tonumber(redis.call('HGET', KEYS[1], 'generation') or '0') or 0
end

-- Why the write must change nothing: 'deposed' when a higher epoch wrote the job, 'behind' when the store has
-- lost what it had acknowledged; nil when it may go on.
local function refusal()
  if is_deposed() then
    return 'deposed'
  end
  return generation() < tonumber(ARGV[2]) and 'behind' or nil
end

-- The generation that the write leads to, whatever was lost before it.
local function next_generation()
  return math.max(generation(), tonumber(ARGV[2])) + 1
end

local function note_write(new_generation)
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'generation', string.format('%d', new_generation))
  return new_generation
end
