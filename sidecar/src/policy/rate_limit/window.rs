//! A sliding window in two numbers: how many came in the span that is under way, and in the one before, of which the
//! part still in view counts. It takes the span before as even, and needs no memory per request for that.

use super::counts::Count;

/// The counts of one key. The order is that of time, which is what its table gives up places by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window {
    /// Which span is under way.
    number: u64,
    current: u32,
    previous: u32,
}

impl Window {
    /// Counts one request, if fewer than `most` are in view; `span` and `now` in nanoseconds.
    pub(super) fn take(&mut self, span: u64, most: u32, now: u64) -> Count {
        self.forward(now / span);
        // Threads read the clock one after the other and come here in another order.
        let elapsed = now.saturating_sub(self.number.saturating_mul(span)).min(span);
        let used = share(self.previous, span - elapsed, span).saturating_add(self.current);
        match most.checked_sub(used.saturating_add(1)) {
            Some(left) => {
                self.current += 1;
                Count { wait: 0, left, reset: span }
            }
            None => Count { wait: self.wait(span, most, elapsed), left: 0, reset: span },
        }
    }

    fn forward(&mut self, number: u64) {
        if number > self.number {
            let previous = if number == self.number + 1 { self.current } else { 0 };
            *self = Self { number, current: 0, previous };
        }
    }

    /// How long until one more fits in, at least a nanosecond.
    fn wait(self, span: u64, most: u32, elapsed: u64) -> u64 {
        let until = match most.checked_sub(self.current.saturating_add(1)) {
            Some(room) => fades(self.previous, room, span),
            None => span.saturating_add(fades(self.current, most.saturating_sub(1), span)),
        };
        until.saturating_sub(elapsed).max(1)
    }
}

/// How far into a span the one before, with that many requests, counts for no more than `room`.
fn fades(previous: u32, room: u32, span: u64) -> u64 {
    let still = u128::from(span) * u128::from(room) / u128::from(previous.max(1));
    span.saturating_sub(u64::try_from(still).unwrap_or(u64::MAX))
}

/// How many of `count` even requests of a span fell into the last `part` of it.
fn share(count: u32, part: u64, span: u64) -> u32 {
    let share = (u128::from(count) * u128::from(part)).div_ceil(u128::from(span));
    u32::try_from(share).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: u64 = 1_000_000;

    fn passed(window: &mut Window, most: u32, now: u64) -> u32 {
        let mut count = 0;
        while window.take(SPAN, most, now).wait == 0 {
            count += 1;
        }
        count
    }

    #[test]
    fn the_span_before_counts_by_the_share_still_in_view() {
        let mut window = Window::default();
        assert_eq!(passed(&mut window, 100, 0), 100);
        assert_eq!(passed(&mut window, 100, SPAN - 1), 0);
        assert_eq!(passed(&mut window, 100, SPAN + SPAN / 2), 50);
        assert_eq!(passed(&mut window, 100, 4 * SPAN), 100);
    }

    #[test]
    fn a_clock_read_a_little_earlier_by_another_thread_loses_nothing() {
        let mut window = Window::default();
        assert_eq!(passed(&mut window, 10, SPAN), 10);
        assert_eq!(passed(&mut window, 10, SPAN - 1), 0);
    }

    #[test]
    fn what_is_left_goes_down_to_none() {
        let mut window = Window::default();
        let left: Vec<_> = (0..3).map(|_| window.take(SPAN, 3, 5).left).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = window.take(SPAN, 3, 5);
        assert!(refused.wait > 0 && refused.left == 0);
    }

    proptest! {
        #[test]
        fn after_the_wait_there_is_room_and_not_long_before(
            most in 1u32..50,
            steps in prop::collection::vec(0u64..SPAN / 3, 1..200),
        ) {
            let (mut window, mut now) = (Window::default(), 0);
            for step in steps {
                now += step;
                let count = window.take(SPAN, most, now);
                if count.wait > 0 {
                    let mut early = window;
                    prop_assert!(count.wait < 3 || early.take(SPAN, most, now + count.wait - 3).wait > 0);
                    let mut after = window;
                    prop_assert_eq!(after.take(SPAN, most, now + count.wait).wait, 0);
                }
            }
        }

        #[test]
        fn no_more_than_the_limit_in_one_span_and_twice_that_in_two(
            most in 1u32..20,
            steps in prop::collection::vec(0u64..SPAN / 5, 1..300),
        ) {
            let (mut window, mut now, mut taken) = (Window::default(), 0, Vec::new());
            for step in steps {
                now += step;
                if window.take(SPAN, most, now).wait == 0 {
                    taken.push(now / SPAN);
                }
            }
            for number in taken.iter().copied() {
                let in_span = taken.iter().filter(|other| **other == number).count();
                prop_assert!(in_span <= most as usize);
            }
        }
    }
}
