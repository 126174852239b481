-- placing: stock is being reserved, nobody sees the order yet. failed: it came to nothing, nobody ever saw it.
CREATE TABLE orders (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    status text NOT NULL
        CHECK (status IN ('placing', 'failed', 'pending', 'paid', 'shipped', 'delivered', 'cancelled')),
    total bigint NOT NULL CHECK (total >= 0),
    currency text NOT NULL,
    idempotency_key text,
    created timestamptz NOT NULL,
    CONSTRAINT orders_idempotency_key UNIQUE (user_id, idempotency_key)
);

CREATE INDEX orders_by_user ON orders (user_id, created DESC);
CREATE INDEX orders_being_placed ON orders (created) WHERE status = 'placing';

CREATE TABLE order_items (
    order_id uuid NOT NULL REFERENCES orders ON DELETE CASCADE,
    product_id uuid NOT NULL,
    name text NOT NULL,
    price bigint NOT NULL CHECK (price >= 0),
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, product_id)
);

-- Stock that must still be given back to the product service.
CREATE TABLE releases (
    order_id uuid NOT NULL,
    product_id uuid NOT NULL,
    quantity bigint NOT NULL,
    due timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, product_id)
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
