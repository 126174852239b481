-- Stops a counter, so that nothing is held while it is rebuilt; not one that is true for that run ('' stops any).
-- KEYS: counter. ARGV: run, end of keys.
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'run') == ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'run', '')
redis.call('PEXPIREAT', KEYS[1], ARGV[2])
return 1
