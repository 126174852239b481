-- What a product is found by: the words of its name, and with less weight those of its description.
CREATE FUNCTION product_words(name text, description text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN setweight(to_tsvector('simple', name), 'A') || setweight(to_tsvector('simple', description), 'B');

CREATE INDEX products_by_words ON products USING gin (product_words(name, description));
