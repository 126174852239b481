-- Holds seats, if all of this is so. Answers {outcome, quantity, expires, created}, {outcome, ms to wait} or {outcome}.
-- KEYS: counter, users, tickets, queue, turn, stream.
-- ARGV: run, ticket, user, quantity, limit, opens, closes, lifetime, rate (0: no queue), lifetime of a place, end of keys.
local HELD, KNOWN, ENDED, STALE, NOT_OPEN, CLOSED, LIMIT, SOLD_OUT, WAIT, CROWD = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9

local counter = redis.call('HMGET', KEYS[1], 'run', 'left')
if counter[1] ~= ARGV[1] then return {STALE} end
local known = redis.call('HGET', KEYS[3], ARGV[2])
if known == '-' then return {ENDED} end
if known then
  local quantity, expires, created = string.match(known, ' (%d+) (%d+) (%d+)$')
  return {KNOWN, tonumber(quantity), tonumber(expires), tonumber(created)}
end

local quantity = tonumber(ARGV[4])
if quantity > tonumber(counter[2]) then return {SOLD_OUT} end
local now = now_ms()
if now < tonumber(ARGV[6]) then return {NOT_OPEN} end
if now >= tonumber(ARGV[7]) then return {CLOSED} end
local own = tonumber(redis.call('HGET', KEYS[2], ARGV[3]) or '0')
if own + quantity > tonumber(ARGV[5]) then return {LIMIT} end
local rate = tonumber(ARGV[9])
if rate > 0 then
  local gate = {rate = rate, opens = tonumber(ARGV[6]), lifetime = tonumber(ARGV[10]), ends = ARGV[11]}
  local left = wait(KEYS[4], KEYS[5], ARGV[3], now, gate)
  if not left then return {CROWD} end
  if left > 0 then return {WAIT, math.ceil(left)} end
end

local created = math.floor(now)
local expires = created + tonumber(ARGV[8])
local hold = string.format('%s %d %.0f %.0f', ARGV[3], quantity, expires, created)
redis.call('HINCRBY', KEYS[1], 'left', -quantity)
redis.call('HINCRBY', KEYS[2], ARGV[3], quantity)
redis.call('HSET', KEYS[3], ARGV[2], hold)
redis.call('XADD', KEYS[6], '*', 'hold', ARGV[2] .. ' ' .. hold)
return {HELD, quantity, expires, created}
