-- The highest fencing token of the stock lock that a change was made with: one with an older token is refused.
ALTER TABLE products ADD COLUMN fence bigint NOT NULL DEFAULT 0;
