-- What the simulated provider knows: the world outside, which nothing but the simulation reads or writes.
CREATE SCHEMA provider;

-- One row per payment that it was asked about, by the id that we gave it.
-- void: taken back before it was charged, so that a charge which arrives later is refused.
CREATE TABLE provider.charges (
    id uuid PRIMARY KEY,
    amount bigint NOT NULL,
    currency text NOT NULL,
    method text NOT NULL,
    status text NOT NULL CHECK (status IN ('new', 'pending', 'captured', 'declined', 'refunded', 'void')),
    reason text NOT NULL DEFAULT '',
    -- How often it was asked to charge, and to give back.
    calls integer NOT NULL DEFAULT 0,
    refunds integer NOT NULL DEFAULT 0,
    callback_id text,
    callback_due timestamptz,
    callback_attempts integer NOT NULL DEFAULT 0
);

CREATE INDEX charges_by_callback ON provider.charges (callback_due) WHERE callback_due IS NOT NULL;

-- Money that went from the customer to the shop (above 0) or back (below): the truth that books are compared with.
CREATE TABLE provider.movements (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    charge uuid NOT NULL REFERENCES provider.charges,
    amount bigint NOT NULL,
    currency text NOT NULL,
    time timestamptz NOT NULL DEFAULT now()
);
