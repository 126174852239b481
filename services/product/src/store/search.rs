//! How products are found: by words and beginnings of words, in any order, those of the name before those of the
//! description. PostgreSQL's full-text search with an index; no extension.
//!
//! A text without a letter or digit has no words; it is looked for as it is.

use shop_kit::page::Page;
use sqlx::{FromRow, PgPool, query_as, query_scalar};

use crate::domain::product::Product;

const ALL: Sql = Sql {
    page: "SELECT *, count(*) OVER () AS total FROM products WHERE $1 = '' ORDER BY name, id LIMIT $2 OFFSET $3",
    total: "SELECT count(*) FROM products WHERE $1 = ''",
};
const BY_WORDS: Sql = Sql {
    page: "SELECT products.*, count(*) OVER () AS total FROM products, to_tsquery('simple', $1) AS asked \
           WHERE product_words(name, description) @@ asked \
           ORDER BY ts_rank(product_words(name, description), asked) DESC, name, id LIMIT $2 OFFSET $3",
    total: "SELECT count(*) FROM products WHERE product_words(name, description) @@ to_tsquery('simple', $1)",
};
const BY_TEXT: Sql = Sql {
    page: "SELECT *, count(*) OVER () AS total FROM products WHERE name ILIKE $1 OR description ILIKE $1 \
           ORDER BY name, id LIMIT $2 OFFSET $3",
    total: "SELECT count(*) FROM products WHERE name ILIKE $1 OR description ILIKE $1",
};

struct Sql {
    page: &'static str,
    total: &'static str,
}

#[derive(FromRow)]
struct Counted {
    #[sqlx(flatten)]
    product: Product,
    total: i64,
}

/// One page of the products that a text finds, and how many there are in all. No text finds all of them.
pub(super) async fn find(pool: &PgPool, text: &str, page: Page) -> sqlx::Result<(Vec<Product>, u64)> {
    let (sql, asked) = match text {
        "" => (ALL, String::new()),
        words if words.contains(char::is_alphanumeric) => (BY_WORDS, beginnings(words)),
        other => (BY_TEXT, pattern(other)),
    };
    let found = query_as(sql.page).bind(&asked).bind(page.limit()).bind(page.offset());
    let rows: Vec<Counted> = found.fetch_all(pool).await?;
    let total = match rows.first() {
        Some(row) => row.total,
        None if page.offset() == 0 => 0,
        // Beyond the last page the window function has no row to put the total in.
        None => query_scalar(sql.total).bind(&asked).fetch_one(pool).await?,
    };
    Ok((rows.into_iter().map(|row| row.product).collect(), total.unsigned_abs()))
}

/// A tsquery for all of the words, or longer ones. PostgreSQL takes each apart as it does the products' own words.
fn beginnings(text: &str) -> String {
    let quoted = |word: &str| format!("'{}':*", word.replace('\\', r"\\").replace('\'', "''"));
    let words = text.split_whitespace().filter(|word| word.contains(char::is_alphanumeric));
    words.map(quoted).collect::<Vec<_>>().join(" & ")
}

/// A pattern for LIKE that finds the text itself, whatever is in it.
fn pattern(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
    format!("%{escaped}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_and_wildcards_in_a_search_are_plain_characters() {
        assert_eq!(beginnings("coffee  grinder"), "'coffee':* & 'grinder':*");
        assert_eq!(beginnings(r"o'neill's \ | ! a\b & -"), r"'o''neill''s':* & 'a\\b':*");
        assert_eq!(pattern(r"%_\-"), r"%\%\_\\-%");
    }
}
