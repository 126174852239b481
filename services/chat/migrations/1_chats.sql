-- Rooms and what was said in them. A room begins with its first message.
--
-- `last_id` is counted up in the transaction that inserts the message, under the lock of the row: whoever sees a message
-- sees all that have a lower id, and there are no holes.

CREATE TABLE rooms (
    name text PRIMARY KEY,
    last_id bigint NOT NULL CHECK (last_id > 0)
) WITH (fillfactor = 50);

CREATE TABLE messages (
    room text NOT NULL REFERENCES rooms (name),
    id bigint NOT NULL CHECK (id > 0),
    user_id uuid NOT NULL,
    user_name text NOT NULL,
    -- Chosen by the client: the same one again is the same message again.
    client_id text NOT NULL,
    text text NOT NULL CHECK (octet_length(text) <= 16384),
    time timestamptz NOT NULL,
    PRIMARY KEY (room, id),
    CONSTRAINT messages_once UNIQUE (room, user_id, client_id)
);

-- How far each user has read.
CREATE TABLE seen (
    room text NOT NULL,
    user_id uuid NOT NULL,
    id bigint NOT NULL CHECK (id > 0),
    PRIMARY KEY (room, user_id)
);
