-- Events, and how many of their seats are taken. Whatever another counter says (Redis): a seat beyond the capacity cannot
-- be written down, and no ticket is paid for that is not written down.
CREATE TABLE events (
    id uuid PRIMARY KEY,
    -- The first four bytes of the ids of its tickets.
    number integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    name text NOT NULL,
    venue text NOT NULL,
    starts timestamptz NOT NULL,
    price bigint NOT NULL CHECK (price > 0),
    currency text NOT NULL,
    capacity integer NOT NULL CHECK (capacity > 0),
    per_user integer NOT NULL CHECK (per_user > 0),
    opens timestamptz NOT NULL,
    closes timestamptz NOT NULL CHECK (closes > opens),
    strategy text NOT NULL CHECK (strategy IN ('postgres', 'redis')),
    -- People let in per second while there is a crowd; no queue when null.
    admission_rate integer CHECK (admission_rate > 0),
    taken integer NOT NULL DEFAULT 0,
    created timestamptz NOT NULL,
    CONSTRAINT no_seat_twice CHECK (taken BETWEEN 0 AND capacity)
);

CREATE INDEX events_by_start ON events (starts, id);

-- held: reserved until it expires. paying: the payment is under way. refunding: cancelled, the money is not back yet.
CREATE TABLE tickets (
    id uuid PRIMARY KEY,
    event_id uuid NOT NULL REFERENCES events,
    user_id uuid NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    price bigint NOT NULL CHECK (price > 0),
    status text NOT NULL
        CHECK (status IN ('held', 'paying', 'sold', 'refunding', 'cancelled', 'declined', 'expired')),
    method text,
    reason text,
    traceparent text,
    expires timestamptz NOT NULL,
    created timestamptz NOT NULL,
    changed timestamptz NOT NULL,
    -- The seats it takes from others.
    seats integer NOT NULL
        GENERATED ALWAYS AS (CASE WHEN status IN ('held', 'paying', 'sold', 'refunding') THEN quantity ELSE 0 END) STORED
);

CREATE INDEX tickets_by_user ON tickets (user_id, created DESC, id);
CREATE INDEX tickets_by_event ON tickets (event_id, user_id) WHERE seats > 0;
CREATE INDEX tickets_expiring ON tickets (expires) WHERE status = 'held';
CREATE INDEX tickets_unsettled ON tickets (changed) WHERE status IN ('paying', 'refunding');

-- Keeps events.taken what the tickets say, whoever writes them: the check no_seat_twice is the last line against selling
-- a seat twice. It runs after the rows of a statement, so that all take their locks in one order: tickets, then event.
CREATE FUNCTION count_new_tickets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE events SET taken = taken + counted.seats
    FROM (SELECT event_id, sum(seats)::integer AS seats FROM new_rows GROUP BY event_id HAVING sum(seats) <> 0) counted
    WHERE events.id = counted.event_id;
    RETURN NULL;
END $$;

CREATE FUNCTION count_changed_tickets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE events SET taken = taken + counted.seats
    FROM (
        SELECT event_id, sum(seats)::integer AS seats
        FROM (SELECT event_id, seats FROM new_rows UNION ALL SELECT event_id, -seats FROM old_rows) both_rows
        GROUP BY event_id HAVING sum(seats) <> 0
    ) counted
    WHERE events.id = counted.event_id;
    RETURN NULL;
END $$;

CREATE TRIGGER tickets_added AFTER INSERT ON tickets REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_new_tickets();
CREATE TRIGGER tickets_changed AFTER UPDATE ON tickets REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_changed_tickets();

-- Seats that Redis must still be told are free again.
CREATE TABLE releases (
    ticket_id uuid PRIMARY KEY,
    due timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX releases_by_due ON releases (due);

-- Events of committed changes, on their way to the streams.
CREATE TABLE outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL,
    stream text NOT NULL,
    data jsonb NOT NULL,
    traceparent text,
    time timestamptz NOT NULL
);
