-- One row per reference, whatever was asked first: a payment, or that a payment must not come (refunded, amount 0).
CREATE TABLE payments (
    id uuid PRIMARY KEY,
    reference text NOT NULL CONSTRAINT payments_reference UNIQUE,
    user_id uuid,
    amount bigint NOT NULL CHECK (amount >= 0),
    currency text NOT NULL,
    method text NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'captured', 'declined', 'refunding', 'refunded')),
    reason text NOT NULL DEFAULT '',
    -- Whether the provider said that it has the money; a payment can be taken back before it did.
    captured boolean NOT NULL DEFAULT false,
    -- When the provider must be asked again; none when there is nothing more to ask.
    due timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    traceparent text,
    created timestamptz NOT NULL,
    updated timestamptz NOT NULL,
    CHECK (amount > 0 OR status = 'refunded'),
    CHECK ((due IS NULL) = (status NOT IN ('pending', 'refunding')))
);

CREATE INDEX payments_by_user ON payments (user_id, created DESC);
CREATE INDEX payments_by_due ON payments (due) WHERE due IS NOT NULL;

-- Callbacks that had their effect, so that one that comes again has none.
CREATE TABLE callbacks (
    id text PRIMARY KEY,
    time timestamptz NOT NULL
);

CREATE INDEX callbacks_by_time ON callbacks (time);

-- Events of committed changes, on their way to the streams.
CREATE TABLE outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL,
    stream text NOT NULL,
    data jsonb NOT NULL,
    traceparent text,
    time timestamptz NOT NULL
);
