CREATE TABLE products (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    description text NOT NULL,
    price bigint NOT NULL CHECK (price >= 0),
    currency text NOT NULL,
    stock bigint NOT NULL CHECK (stock >= 0),
    updated timestamptz NOT NULL
);

CREATE INDEX products_by_name ON products (name, id);

-- Stock operations that were named by their caller: each is applied once. A revoked one has no effect, whether it was
-- applied before it was revoked or arrives afterwards.
CREATE TABLE stock_operations (
    id text PRIMARY KEY,
    product_id uuid NOT NULL REFERENCES products,
    delta bigint NOT NULL,
    revoked boolean NOT NULL,
    created timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX stock_operations_by_age ON stock_operations (created);
