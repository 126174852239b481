-- An order is the fold of its events; its row is how it stands, and what is still owed for it.
--
-- step: what any instance does when it is due. pay: the customer is to pay. refund: the payment is to be taken back.
ALTER TABLE orders
    ADD COLUMN version integer NOT NULL DEFAULT 0,
    ADD COLUMN reason text NOT NULL DEFAULT '',
    ADD COLUMN method text,
    ADD COLUMN step text CHECK (step IN ('pay', 'refund')),
    ADD COLUMN due timestamptz,
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN pay_until timestamptz,
    ADD CONSTRAINT orders_step_is_due CHECK ((step IS NULL) = (due IS NULL)),
    ADD CONSTRAINT orders_step_fits CHECK (
        step IS NULL OR (step = 'pay' AND status = 'pending') OR (step = 'refund' AND status = 'cancelled'));

CREATE INDEX orders_by_due ON orders (due) WHERE due IS NOT NULL;

CREATE TABLE order_events (
    order_id uuid NOT NULL REFERENCES orders ON DELETE CASCADE,
    version integer NOT NULL CHECK (version > 0),
    type text NOT NULL,
    data jsonb NOT NULL,
    time timestamptz NOT NULL,
    PRIMARY KEY (order_id, version)
);

-- The fold of the events up to a version, so that not all of them need be read.
CREATE TABLE order_snapshots (
    order_id uuid PRIMARY KEY REFERENCES orders ON DELETE CASCADE,
    version integer NOT NULL,
    state jsonb NOT NULL
);

-- Events of others that had their effect, so that one that comes again has none.
CREATE TABLE inbox (
    consumer text NOT NULL,
    event_id uuid NOT NULL,
    time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, event_id)
);

CREATE INDEX inbox_by_age ON inbox (time);

-- Orders from before there were events: one event that says how they stood.
INSERT INTO order_events (order_id, version, type, data, time)
SELECT o.id, 1, 'imported', jsonb_build_object(
    'id', o.id, 'user_id', o.user_id, 'total', o.total, 'currency', o.currency, 'status', o.status,
    'created', to_char(o.created AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'items', (SELECT jsonb_agg(jsonb_build_object('product_id', i.product_id, 'name', i.name, 'price', i.price,
        'quantity', i.quantity) ORDER BY i.product_id) FROM order_items i WHERE i.order_id = o.id)), o.created
FROM orders o;
UPDATE orders SET version = 1;
