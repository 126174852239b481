-- The limit per customer was promised by the counters alone: by the script in Redis, and by who holds the event's row. What
-- a Redis that was emptied had held, and what it held after that, could both be written down and paid. As no_seat_twice
-- does for the event, this refuses what is beyond it, whoever writes. The event's row is locked by then, and each statement
-- here sees what those before wrote who had it.
CREATE OR REPLACE FUNCTION count_new_tickets() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    greedy uuid;
BEGIN
    UPDATE events SET taken = taken + counted.seats
    FROM (SELECT event_id, sum(seats)::integer AS seats FROM new_rows GROUP BY event_id HAVING sum(seats) <> 0) counted
    WHERE events.id = counted.event_id;

    SELECT customers.user_id INTO greedy
    FROM (SELECT DISTINCT event_id, user_id FROM new_rows WHERE seats > 0) customers
    JOIN events ON events.id = customers.event_id
    WHERE events.per_user < (
        SELECT sum(seats) FROM tickets
        WHERE tickets.event_id = customers.event_id AND tickets.user_id = customers.user_id AND seats > 0
    )
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'customer % would have more seats than one may', greedy
            USING ERRCODE = 'check_violation', TABLE = 'tickets', CONSTRAINT = 'no_seat_beyond_limit';
    END IF;
    RETURN NULL;
END $$;
