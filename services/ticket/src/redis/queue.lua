-- The queue by itself: 'join' takes a place, 'look' only looks, 'pass' goes in if there is no crowd. Answers
-- {1, how many are let in before, ms to wait}, or {0} without a place.
-- KEYS: queue, turn. ARGV: what, user, rate, opens, lifetime of a place, end of keys.
local now = now_ms()
local gate = {rate = tonumber(ARGV[3]), opens = tonumber(ARGV[4]), lifetime = tonumber(ARGV[5]), ends = ARGV[6]}
local user = ARGV[2]
local left
if ARGV[1] == 'pass' then
  left = wait(KEYS[1], KEYS[2], user, now, gate)
else
  local at = place(KEYS[1], user, now, gate.lifetime)
  if not at and ARGV[1] == 'join' then at = join(KEYS[1], KEYS[2], user, now, gate) end
  left = at and math.max(0, at - now)
end
if not left then return {0} end
local ahead = 0
if left > 0 then
  ahead = redis.call('ZCOUNT', KEYS[1], string.format('(%.3f', now), string.format('(%.3f', now + left))
end
return {1, ahead, math.ceil(left)}
