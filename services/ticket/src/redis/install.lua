-- Puts a rebuilt counter in place; 0 if what it is made of is not all there, as Redis was emptied meanwhile.
-- KEYS: counter, users, tickets, new users, new tickets. ARGV: run, left, end of keys, how many users, how many tickets.
for i = 4, 5 do
  if redis.call('HLEN', KEYS[i]) ~= tonumber(ARGV[i]) then return 0 end
end
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
