-- What a user is told of an event, once per channel. pending: to be sent when due; failed: given up, see error.
CREATE TABLE notifications (
    event_id uuid NOT NULL,
    channel text NOT NULL CHECK (channel IN ('email', 'sms', 'push')),
    event text NOT NULL,
    user_id uuid NOT NULL,
    recipient text NOT NULL,
    subject text NOT NULL,
    text text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    due timestamptz NOT NULL,
    error text,
    created timestamptz NOT NULL,
    sent timestamptz,
    PRIMARY KEY (event_id, channel)
);

CREATE INDEX notifications_due ON notifications (channel, due) WHERE state = 'pending';
CREATE INDEX notifications_by_user ON notifications (user_id, created DESC);

-- How a user wants to be told. Without a row: by e-mail.
CREATE TABLE preferences (
    user_id uuid PRIMARY KEY,
    email boolean NOT NULL,
    phone text,
    device text
);

-- Events whose notifications are written.
CREATE TABLE inbox (
    consumer text NOT NULL,
    event_id uuid NOT NULL,
    time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, event_id)
);

CREATE INDEX inbox_by_age ON inbox (time);

-- Events of notifications that were given up, on their way to the stream.
CREATE TABLE outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL,
    stream text NOT NULL,
    data jsonb NOT NULL,
    traceparent text,
    time timestamptz NOT NULL
);
