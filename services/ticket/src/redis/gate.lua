-- The waiting queue: its members are let in one by one, `rate` per second. Whoever joins gets a time at once, so nothing
-- has to run for the queue to move, and the wait that is told is the wait there will be.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end

-- When the customer is let in; nil without a place, or with one that was not used in time.
local function place(queue, user, now, lifetime)
  local at = redis.call('ZSCORE', queue, user)
  at = at and tonumber(at)
  if at and at + lifetime > now then return at end
  return nil
end

-- When the next one is let in.
local function next_turn(turn)
  return tonumber(redis.call('GET', turn) or '0')
end

-- Takes the next place.
local function join(queue, turn, user, now, gate)
  local at = math.max(now, gate.opens, next_turn(turn))
  redis.call('ZREMRANGEBYSCORE', queue, '-inf', string.format('%.3f', now - gate.lifetime))
  redis.call('ZADD', queue, string.format('%.3f', at), user)
  redis.call('SET', turn, string.format('%.3f', at + 1000 / gate.rate))
  redis.call('PEXPIREAT', queue, gate.ends)
  redis.call('PEXPIREAT', turn, gate.ends)
  return at
end

-- How long the customer has to wait: 0 to go in now, which without a crowd needs no place; nil for a crowd without one.
local function wait(queue, turn, user, now, gate)
  local at = place(queue, user, now, gate.lifetime)
  if not at and next_turn(turn) <= now then at = join(queue, turn, user, now, gate) end
  if not at then return nil end
  return math.max(0, at - now)
end
