-- Gives the seats of a ticket back, once. KEYS: counter, users, tickets. ARGV: ticket, what stays of it ('-' or '').
local hold = redis.call('HGET', KEYS[3], ARGV[1])
if not hold or hold == '-' then return 0 end
local user, quantity = string.match(hold, '^(%S+) (%d+) ')
redis.call('HINCRBY', KEYS[1], 'left', quantity)
if redis.call('HINCRBY', KEYS[2], user, -quantity) <= 0 then redis.call('HDEL', KEYS[2], user) end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[3], ARGV[1])
else
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
end
return 1
