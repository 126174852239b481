//! Local rate limits: the last request there is room for passes once, by bucket and by window.

use std::sync::Arc;

use tokio::time::Instant;
use weft_interleave::policy::rate_limit::Limit;

use crate::twice;

fn the_last_passes_once(limit: fn(u32, Instant) -> Limit) {
    let now = Instant::now();
    loom::model(move || {
        let limit = Arc::new(limit(2, now));
        let take = move |limit: &Arc<Limit>| limit.take(now);
        assert!(take(&limit));
        let (one, other) = twice(&limit, take);
        assert!(one ^ other, "there is room for one more");
        assert!(!take(&limit));
    });
}

#[test]
fn the_last_token_is_spent_once() {
    the_last_passes_once(Limit::bucket);
}

#[test]
fn the_last_place_of_a_window_is_taken_once() {
    the_last_passes_once(Limit::window);
}
