//! Injected faults: some requests are delayed, some answered with an error, so that callers can be tested. Stands first
//! on the outbound path. Randomness is an argument; the path does the waiting and the answering.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use weft_api::v1;

use super::ConfigError;
use super::pattern::HeaderPattern;
use super::request_match::{RequestMatch, any_or_all};
use crate::cx::RequestCx;

/// The faults of one destination.
#[derive(Clone, Debug, Default)]
pub struct Faults(Box<[Fault]>);

#[derive(Clone, Debug)]
struct Fault {
    /// Hit when a random number is below this: 0 never, 2^32 always.
    below: u64,
    kind: Kind,
    to: Box<[RequestMatch]>,
    headers: Box<[HeaderPattern]>,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Delay(Duration),
    Abort(StatusCode),
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Wait this long first.
    pub delay: Option<Duration>,
    /// Then answer with this status (`Reason::FaultInjected`) instead of calling anybody.
    pub abort: Option<StatusCode>,
}

impl Faults {
    /// Compiles the wire form.
    pub fn new(config: &[v1::Fault]) -> Result<Self, ConfigError> {
        config.iter().map(Fault::new).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are none: the usual case.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What happens to this request. `random` is asked once per fault that it may meet. Delays add up; the first abort
    /// counts.
    pub fn decide(&self, cx: &RequestCx, headers: &HeaderMap, mut random: impl FnMut() -> u32) -> Injected {
        let mut injected = Injected::default();
        let met = |fault: &&Fault| fault.may_meet(cx, headers) && u64::from(random()) < fault.below;
        for fault in self.0.iter().filter(met) {
            match fault.kind {
                Kind::Delay(delay) => injected.delay = Some(injected.delay.unwrap_or_default() + delay),
                Kind::Abort(status) => injected.abort = injected.abort.or(Some(status)),
            }
        }
        injected
    }
}

impl Fault {
    fn new(config: &v1::Fault) -> Result<Self, ConfigError> {
        use v1::fault::Kind as Wire;
        if !(0.0..=100.0).contains(&config.percent) {
            return Err(ConfigError::invalid(
                "faults[].percent",
                config.percent.to_string(),
                "write 0 to 100",
            ));
        }
        let kind = match config.kind {
            Some(Wire::DelayMs(ms)) => Kind::Delay(Duration::from_millis(ms)),
            Some(Wire::AbortStatus(status)) => Kind::Abort(abort_status(status)?),
            None => return Err(ConfigError::invalid("faults[]", "", "give it a delay or an abort status")),
        };
        let headers = config.headers.iter().map(HeaderPattern::new).collect::<Result<_, _>>()?;
        Ok(Self { below: threshold(config.percent), kind, to: RequestMatch::all(&config.to)?, headers })
    }

    fn may_meet(&self, cx: &RequestCx, headers: &HeaderMap) -> bool {
        any_or_all(&self.to, cx) && self.headers.iter().all(|header| header.matches(headers))
    }
}

fn abort_status(status: u32) -> Result<StatusCode, ConfigError> {
    u16::try_from(status)
        .ok()
        .filter(|code| (200..=599).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| {
            ConfigError::invalid("faults[].abort", status.to_string(), "write an HTTP status, 200 to 599")
        })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of 2^32 between 0 and 2^32, since percent is between 0 and 100"
)]
fn threshold(percent: f64) -> u64 {
    (percent / 100.0 * 4_294_967_296.0).round() as u64
}

#[cfg(test)]
mod tests {
    use v1::fault::Kind as Wire;

    use super::*;
    use crate::policy::fixture;

    fn faults(list: &[(f64, Wire)]) -> Result<Faults, ConfigError> {
        let fault = |(percent, kind): &(f64, Wire)| v1::Fault {
            percent: *percent,
            kind: Some(*kind),
            ..Default::default()
        };
        Faults::new(&list.iter().map(fault).collect::<Vec<_>>())
    }

    fn decide(faults: &Faults, random: u32) -> Injected {
        faults.decide(&fixture::request("GET", "order", "/orders"), &HeaderMap::new(), || random)
    }

    #[test]
    fn the_share_hit_is_exact() {
        let half = faults(&[(50.0, Wire::DelayMs(100))]).unwrap();
        assert_eq!(decide(&half, 0x7fff_ffff).delay, Some(Duration::from_millis(100)));
        assert_eq!(decide(&half, 0x8000_0000).delay, None);
        let all = faults(&[(100.0, Wire::AbortStatus(503))]).unwrap();
        assert_eq!(decide(&all, u32::MAX).abort, Some(StatusCode::SERVICE_UNAVAILABLE));
        let none = faults(&[(0.0, Wire::AbortStatus(503))]).unwrap();
        assert_eq!(decide(&none, 0), Injected::default());
    }

    #[test]
    fn delays_add_up_and_the_first_abort_counts() {
        let all = [Wire::DelayMs(10), Wire::AbortStatus(500), Wire::DelayMs(5), Wire::AbortStatus(503)];
        let injected = decide(&faults(&all.map(|kind| (100.0, kind))).unwrap(), 1);
        assert_eq!(injected.delay, Some(Duration::from_millis(15)));
        assert_eq!(injected.abort, Some(StatusCode::INTERNAL_SERVER_ERROR));
    }

    #[test]
    fn only_requests_that_match_meet_a_fault() {
        let value = Some(v1::header_match::Value::Exact("on".into()));
        let fault = v1::Fault {
            percent: 100.0,
            kind: Some(Wire::AbortStatus(503)),
            to: vec![v1::RequestMatch { paths: vec!["/orders*".into()], ..Default::default() }],
            headers: vec![v1::HeaderMatch { name: "x-chaos".into(), value }],
        };
        let faults = Faults::new(&[fault]).unwrap();
        let met = |path: &str, chaos: &str| {
            let headers = fixture::headers(&[("x-chaos", chaos)]);
            faults.decide(&fixture::request("GET", "order", path), &headers, || 0).abort.is_some()
        };
        assert!(met("/orders/1", "on"));
        assert!(!met("/orders/1", "off") && !met("/products", "on"));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (percent, kind) in
            [(101.0, Wire::DelayMs(1)), (f64::NAN, Wire::DelayMs(1)), (1.0, Wire::AbortStatus(99))]
        {
            assert!(faults(&[(percent, kind)]).is_err());
        }
        assert!(Faults::new(&[v1::Fault { percent: 1.0, ..Default::default() }]).is_err());
    }
}
