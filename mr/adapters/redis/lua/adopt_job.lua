-- adopt_job v3: raise the epoch of an unfinished job, so that writes of an earlier coordinator are refused.
-- KEYS: 1 job (hash), 2 claims (hash)
-- ARGV: 1 epoch, 2 '0': any generation is accepted
-- Returns the job's new generation, 'ended' for a job that is over or unknown, or 'deposed' when a higher
-- epoch wrote it.
-- uses: claims, fence
if not is_open(KEYS[2]) then
  return 'ended'
end
return refusal() or note_write(next_generation())
