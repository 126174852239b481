-- Puts a rebuilt counter in place. KEYS: counter, users, tickets, new users, new tickets. ARGV: run, left, end of keys.
for i = 2, 3 do
  redis.call('DEL', KEYS[i])
  if redis.call('EXISTS', KEYS[i + 2]) == 1 then
    redis.call('RENAME', KEYS[i + 2], KEYS[i])
    redis.call('PEXPIREAT', KEYS[i], ARGV[3])
  end
end
redis.call('HSET', KEYS[1], 'run', ARGV[1], 'left', ARGV[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
return 1
