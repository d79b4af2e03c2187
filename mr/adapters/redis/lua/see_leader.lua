-- see_leader v1: note that a coordinator has confirmed its lead.
-- KEYS: 1 seen (string)
-- uses: time
redis.call('SET', KEYS[1], string.format('%d', now_ms()))
