//! Distribution, stability and fallback of the balancing policies.

use proptest::prelude::*;
use v1::LbPolicy;

use super::*;
use crate::policy::outcome::Outcome;
use crate::policy::outlier;

fn endpoints(weights: &[u32]) -> v1::Endpoints {
    let endpoint = |(n, weight): (usize, &u32)| v1::Endpoint {
        address: format!("10.0.0.{}:80", n + 1),
        instance: format!("order-{n}"),
        meshed: true,
        zone: String::new(),
        weight: *weight,
    };
    v1::Endpoints { endpoints: weights.iter().enumerate().map(endpoint).collect() }
}

fn balancer(policy: LbPolicy, weights: &[u32]) -> Balancer {
    let config = v1::LoadBalancing { policy: policy.into(), hash_on: None };
    Balancer::new(Some(&config), &endpoints(weights), None, Instant::now()).unwrap()
}

/// Random numbers that are the same in every run.
fn random(n: u64) -> u64 {
    hash::mix(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn shares(balancer: &Balancer, picks: u32) -> Vec<f64> {
    let now = Instant::now();
    let mut counts = vec![0u32; balancer.endpoints().len()];
    for n in 0..picks {
        let picked = balancer.pick(&Ask { random: random(n.into()), ..Ask::default() }, now).unwrap();
        counts[picked.index()] += 1;
    }
    counts.iter().map(|count| f64::from(*count) / f64::from(picks)).collect()
}

fn eject(balancer: &Balancer, index: usize, now: Instant) {
    let wire = v1::Outlier { consecutive_failures: 1, eject_ms: 30_000, max_ejected_percent: 100 };
    let policy = outlier::Policy::new(Some(&wire)).unwrap();
    let endpoint = &balancer.endpoints()[index];
    assert!(policy.record(endpoint.ejection(), Outcome::Reset, now, || balancer.peers(now)).is_some());
}

const ALL: [LbPolicy; 5] = [
    LbPolicy::PeakEwma,
    LbPolicy::LeastRequest,
    LbPolicy::RoundRobin,
    LbPolicy::Random,
    LbPolicy::ConsistentHash,
];

#[test]
fn round_robin_and_random_follow_the_weights() {
    assert_eq!(shares(&balancer(LbPolicy::RoundRobin, &[1, 1, 2]), 400), [0.25, 0.25, 0.5]);
    for (share, ideal) in
        shares(&balancer(LbPolicy::Random, &[1, 1, 2]), 20_000).iter().zip([0.25, 0.25, 0.5])
    {
        assert!((share - ideal).abs() < 0.02, "{share} is not {ideal}");
    }
}

#[test]
fn idle_endpoints_share_evenly_whatever_the_policy() {
    for policy in ALL {
        for share in shares(&balancer(policy, &[1; 4]), 20_000) {
            assert!((share - 0.25).abs() < 0.06, "{policy:?}: {share}");
        }
    }
}

#[test]
fn least_request_avoids_the_busy_endpoint() {
    let balancer = balancer(LbPolicy::LeastRequest, &[1, 1]);
    let now = Instant::now();
    let mut held = Vec::new();
    for n in 0..100 {
        held.push(balancer.pick(&Ask { random: random(n), ..Ask::default() }, now).unwrap());
    }
    let inflight: Vec<_> = balancer.endpoints().iter().map(|e| e.inflight()).collect();
    assert_eq!(inflight, [50, 50]);
    drop(held);
    assert!(balancer.endpoints().iter().all(|e| e.inflight() == 0));
}

#[test]
fn peak_ewma_avoids_the_slow_endpoint_until_it_has_faded() {
    let balancer = balancer(LbPolicy::PeakEwma, &[1, 1]);
    let start = Instant::now();
    let pick = |n, now| balancer.pick(&Ask { random: random(n), ..Ask::default() }, now).unwrap();
    let answer = |picked: Picked, ms| {
        picked.answered(Outcome::Status(http::StatusCode::OK), std::time::Duration::from_millis(ms), start);
        picked.index()
    };
    let first = answer(pick(0, start), 1);
    let second = answer(pick(1, start), 500);
    assert_ne!(first, second, "a new endpoint is tried first");
    assert!((2..100).all(|n| pick(n, start).index() == first));
    let busy: Vec<_> = (0..600).map(|n| pick(n, start)).collect();
    assert!(busy.iter().any(|p| p.index() == second), "a long queue is worse than a slow endpoint");
}

#[test]
fn tried_and_ejected_endpoints_come_last() {
    let now = Instant::now();
    for policy in ALL {
        let balancer = balancer(policy, &[1; 3]);
        eject(&balancer, 0, now);
        for n in 0..200 {
            let pick = |tried: &[usize]| {
                let picked = balancer.pick(&Ask { key: None, random: random(n), tried }, now).unwrap();
                (picked.index(), picked.is_again())
            };
            assert_ne!(pick(&[]).0, 0, "{policy:?}");
            assert_eq!(pick(&[1]), (2, false), "{policy:?}");
            assert_ne!(pick(&[1, 2]).0, 0, "{policy:?}: one in use again rather than an ejected one");
            assert!(pick(&[1, 2]).1);
        }
        assert!(balancer.has_others(&[1], now));
        assert!(!balancer.has_others(&[1, 2], now), "an ejected endpoint is no other");
        eject(&balancer, 1, now);
        eject(&balancer, 2, now);
        assert!(balancer.pick(&Ask::default(), now).is_some(), "{policy:?}: all ejected is better than none");
    }
}

#[test]
fn no_endpoints_give_no_endpoint() {
    for policy in ALL {
        assert!(balancer(policy, &[]).pick(&Ask::default(), Instant::now()).is_none());
    }
}

#[test]
fn what_is_known_survives_an_update_of_the_list() {
    let now = Instant::now();
    let old = balancer(LbPolicy::LeastRequest, &[1, 1]);
    eject(&old, 1, now);
    let held = old.pick(&Ask::default(), now).unwrap();
    assert_eq!(held.index(), 0);
    let mut list = endpoints(&[1, 1, 1]);
    list.endpoints.reverse();
    let new = Balancer::new(None, &list, Some(&old), now).unwrap();
    assert!(new.endpoints()[1].ejection().is_ejected(now));
    assert_eq!(new.endpoints()[2].inflight(), 1);
    drop(held);
    assert_eq!(new.endpoints()[2].inflight(), 0);
}

#[test]
fn an_address_without_port_is_refused() {
    let mut list = endpoints(&[1]);
    list.endpoints[0].address = "10.0.0.1".into();
    assert!(Balancer::new(None, &list, None, Instant::now()).is_err());
}

#[test]
fn requests_are_kept_together_by_header_cookie_or_address() {
    use v1::hash_on::On;
    let headers = crate::policy::fixture::headers(&[("x-user", "ada"), ("cookie", "a=b; session=42; c=d")]);
    let ip = crate::policy::fixture::CLIENT;
    let key = |on: On, headers: &HeaderMap| {
        let hash_on = Some(v1::HashOn { on: Some(on) });
        let config = v1::LoadBalancing { policy: LbPolicy::ConsistentHash.into(), hash_on };
        Balancer::new(Some(&config), &endpoints(&[1]), None, Instant::now()).unwrap().key(headers, ip)
    };
    assert_eq!(key(On::Header("x-user".into()), &headers), Some(hash_key(b"ada")));
    assert_eq!(key(On::Cookie("session".into()), &headers), Some(hash_key(b"42")));
    assert_eq!(key(On::Cookie("sess".into()), &headers), None);
    assert_eq!(key(On::ClientIp(true), &headers), Some(hash_key(&[10, 0, 0, 7])));
    assert_eq!(key(On::Header("x-user".into()), &HeaderMap::new()), None);
}

fn owners(list: &v1::Endpoints, keys: u64) -> Vec<String> {
    let config = v1::LoadBalancing { policy: LbPolicy::ConsistentHash.into(), hash_on: None };
    let now = Instant::now();
    let balancer = Balancer::new(Some(&config), list, None, now).unwrap();
    let owner = |n| {
        let picked = balancer.pick(&Ask { key: Some(random(n)), ..Ask::default() }, now).unwrap();
        picked.endpoint().address().to_string()
    };
    (0..keys).map(owner).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn only_the_keys_of_a_removed_endpoint_move(count in 2usize..12, gone in 0usize..12) {
        let mut list = endpoints(&vec![1; count]);
        let before = owners(&list, 500);
        let removed = list.endpoints.remove(gone % count).address;
        let after = owners(&list, 500);
        for (before, after) in before.iter().zip(&after) {
            prop_assert!(before == after || *before == removed);
        }
        let moved = before.iter().filter(|b| **b == removed).count();
        prop_assert!(moved < 500 * 2 / count + 50, "{} of 500 moved", moved);
    }

    #[test]
    fn the_order_of_endpoints_does_not_matter_to_keys(count in 1usize..12) {
        let mut list = endpoints(&vec![1; count]);
        let before = owners(&list, 200);
        list.endpoints.reverse();
        prop_assert_eq!(before, owners(&list, 200));
    }

    #[test]
    fn a_pick_is_always_one_of_the_best_class(
        policy in 0usize..5,
        weights in prop::collection::vec(1u32..5, 1..8),
        marks in prop::collection::vec((any::<bool>(), any::<bool>()), 8),
        seed: u64,
    ) {
        let now = Instant::now();
        let balancer = balancer(ALL[policy], &weights);
        let count = weights.len();
        let tried: Vec<usize> = (0..count).filter(|i| marks[*i].0).collect();
        (0..count).filter(|i| marks[*i].1).for_each(|i| eject(&balancer, i, now));
        let rank = |i: usize| (u8::from(marks[i].1) << 1) | u8::from(marks[i].0);
        let picked = balancer.pick(&Ask { key: None, random: seed, tried: &tried }, now).unwrap();
        prop_assert_eq!(rank(picked.index()), (0..count).map(rank).min().unwrap());
    }
}
