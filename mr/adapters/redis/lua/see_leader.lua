-- see_leader v1: note that a coordinator has said that it leads.
-- KEYS: 1 seen (string)
-- uses: time
redis.call('SET', KEYS[1], string.format('%d', now_ms()))
