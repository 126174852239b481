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
        for_zones: Vec::new(),
        weight: *weight,
    };
    v1::Endpoints { endpoints: weights.iter().enumerate().map(endpoint).collect() }
}

fn balancer(policy: LbPolicy, weights: &[u32]) -> Balancer {
    let config = v1::LoadBalancing { policy: policy.into(), ..Default::default() };
    made(&config, &endpoints(weights), None, Instant::now())
}

fn made(
    config: &v1::LoadBalancing,
    list: &v1::Endpoints,
    previous: Option<&Balancer>,
    now: Instant,
) -> Balancer {
    let rules = Rules { balancing: Some(config), zone: "a", ..Rules::default() };
    Balancer::new(rules, list, previous, now).unwrap()
}

/// Random numbers that are the same in every run.
fn random(n: u64) -> u64 {
    hash::mix(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn shares(balancer: &Balancer, picks: u32) -> Vec<f64> {
    shares_at(balancer, picks, Instant::now())
}

fn shares_at(balancer: &Balancer, picks: u32, now: Instant) -> Vec<f64> {
    let mut counts = vec![0u32; balancer.endpoints().len()];
    for n in 0..picks {
        let picked = balancer.pick(&Ask { random: random(n.into()), ..Ask::default() }, now).unwrap();
        counts[picked.index()] += 1;
    }
    counts.iter().map(|count| f64::from(*count) / f64::from(picks)).collect()
}

fn eject(balancer: &Balancer, index: usize, now: Instant) {
    let wire = v1::Outlier {
        consecutive_failures: 1,
        eject_ms: 30_000,
        max_ejected_percent: 100,
        ..Default::default()
    };
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
    let new = Balancer::new(Rules::default(), &list, Some(&old), now).unwrap();
    assert!(new.endpoints()[1].ejection().is_ejected(now));
    assert_eq!(new.endpoints()[2].inflight(), 1);
    drop(held);
    assert_eq!(new.endpoints()[2].inflight(), 0);
}

#[test]
fn with_too_few_left_ejected_endpoints_are_used_too() {
    let now = Instant::now();
    let rules = Rules { panic_percent: 60, ..Rules::default() };
    let balancer = Balancer::new(rules, &endpoints(&[1; 4]), None, now).unwrap();
    eject(&balancer, 0, now);
    assert!(!balancer.panics(now) && shares(&balancer, 1000)[0] == 0.0);
    eject(&balancer, 1, now);
    assert!(balancer.panics(now), "half is less than 60 %");
    assert!(shares(&balancer, 10_000).iter().all(|share| (share - 0.25).abs() < 0.06));
}

#[test]
fn an_endpoint_that_is_new_gets_its_share_slowly() {
    let start = Instant::now();
    for policy in [LbPolicy::LeastRequest, LbPolicy::RoundRobin, LbPolicy::Random] {
        let config = v1::LoadBalancing { policy: policy.into(), slow_start_ms: 10_000, ..Default::default() };
        let old = made(&config, &endpoints(&[1; 3]), None, start);
        assert!(shares_at(&old, 3_000, start).iter().all(|share| *share > 0.3), "all new: none is newer");
        let new = made(&config, &endpoints(&[1; 4]), Some(&old), start);
        let share = |seconds| shares_at(&new, 10_000, start + Duration::from_secs(seconds))[3];
        let (first, half, full) = (share(0), share(5), share(10));
        assert!((0.01..0.06).contains(&first), "{policy:?}: {first}");
        assert!((0.08..0.2).contains(&half), "{policy:?}: {half}");
        assert!((full - 0.25).abs() < 0.03, "{policy:?}: {full}");
    }
}

#[test]
fn an_endpoint_that_comes_back_gets_its_share_slowly_too() {
    let start = Instant::now();
    let config = v1::LoadBalancing {
        policy: LbPolicy::LeastRequest.into(),
        slow_start_ms: 10_000,
        ..Default::default()
    };
    let balancer = made(&config, &endpoints(&[1; 2]), None, start);
    eject(&balancer, 0, start);
    let share = |seconds| shares_at(&balancer, 10_000, start + Duration::from_secs(seconds))[0];
    assert!(share(29) < 0.001);
    assert!((0.03..0.1).contains(&share(30)), "{}", share(30));
    assert!((share(40) - 0.5).abs() < 0.03);
}

fn zones(zones: &[&str]) -> v1::Endpoints {
    let mut list = endpoints(&vec![1; zones.len()]);
    list.endpoints.iter_mut().zip(zones).for_each(|(endpoint, zone)| (*zone).clone_into(&mut endpoint.zone));
    list
}

#[test]
fn the_own_zone_comes_first_while_half_of_it_is_in_use() {
    let now = Instant::now();
    for policy in ALL {
        let config = v1::LoadBalancing { policy: policy.into(), prefer_zone: true, ..Default::default() };
        let balancer = made(&config, &zones(&["b", "a", "b", "a", "c"]), None, now);
        let here = |tried: &[usize], n| {
            let picked = balancer.pick(&Ask { key: None, random: random(n), tried }, now).unwrap();
            picked.endpoint().zone() == "a"
        };
        assert!((0..100).all(|n| here(&[], n)), "{policy:?}");
        assert!((0..100).all(|n| here(&[1], n)), "{policy:?}: the other one of the zone");
        assert!((0..100).all(|n| !here(&[1, 3], n)), "{policy:?}: what was tried is not tried again");
        eject(&balancer, 1, now);
        assert!((0..100).all(|n| here(&[], n)), "{policy:?}");
        eject(&balancer, 3, now);
        assert!((0..100).all(|n| !here(&[], n)), "{policy:?}");
    }
}

#[test]
fn in_its_zone_each_endpoint_has_an_equal_share() {
    let now = Instant::now();
    for policy in [LbPolicy::RoundRobin, LbPolicy::Random, LbPolicy::LeastRequest] {
        let config = v1::LoadBalancing { policy: policy.into(), prefer_zone: true, ..Default::default() };
        let balancer = made(&config, &zones(&["a", "b", "b", "b", "a"]), None, now);
        let shares = shares(&balancer, 10_000);
        assert!((shares[0] - 0.5).abs() < 0.03 && shares[0] + shares[4] > 0.999, "{policy:?}: {shares:?}");
    }
}

#[test]
fn hints_of_the_cluster_count_where_every_endpoint_has_some() {
    let now = Instant::now();
    let hinted = |hints: &[&[&str]]| {
        let mut list = zones(&["a", "b", "b", "c"]);
        for (endpoint, hints) in list.endpoints.iter_mut().zip(hints) {
            endpoint.for_zones = hints.iter().map(|zone| (*zone).to_owned()).collect();
        }
        list
    };
    let used = |config: v1::LoadBalancing, list: &v1::Endpoints| {
        let shares = shares(&made(&config, list, None, now), 1000);
        shares.iter().map(|share| *share > 0.0).collect::<Vec<_>>()
    };
    let any = || v1::LoadBalancing { policy: v1::LbPolicy::RoundRobin.into(), ..Default::default() };
    let prefer = || v1::LoadBalancing { prefer_zone: true, ..any() };
    let for_two: &[&[&str]] = &[&["a", "c"], &["a"], &["b"], &["c"]];
    assert_eq!(used(any(), &hinted(for_two)), [true, true, false, false], "without having asked for it");
    assert_eq!(used(prefer(), &hinted(for_two)), [true, true, false, false], "not by where they are");
    let one_without: &[&[&str]] = &[&["b"], &["a"], &["b"], &[]];
    assert_eq!(used(any(), &hinted(one_without)), [true; 4], "one without: nobody's count");
    assert_eq!(used(prefer(), &hinted(one_without)), [true, false, false, false], "then where they are does");
    let for_others: &[&[&str]] = &[&["b"], &["b"], &["c"], &["c"]];
    assert_eq!(used(any(), &hinted(for_others)), [true; 4], "none is meant for here: all are used");
}

#[test]
fn without_an_endpoint_in_the_own_zone_all_are_used() {
    let now = Instant::now();
    let config = v1::LoadBalancing { prefer_zone: true, ..Default::default() };
    assert!(made(&config, &zones(&["b", "c"]), None, now).pick(&Ask::default(), now).is_some());
    let rules = Rules { balancing: Some(&config), ..Rules::default() };
    let nowhere = Balancer::new(rules, &zones(&["", "c"]), None, now).unwrap();
    assert!(shares(&nowhere, 1000).iter().all(|share| *share > 0.3), "a zone that is not known is none");
}

#[test]
fn an_address_without_port_is_refused() {
    let mut list = endpoints(&[1]);
    list.endpoints[0].address = "10.0.0.1".into();
    assert!(Balancer::new(Rules::default(), &list, None, Instant::now()).is_err());
}

#[test]
fn requests_are_kept_together_by_header_cookie_or_address() {
    use v1::hash_on::On;
    let headers = crate::policy::fixture::headers(&[("x-user", "ada"), ("cookie", "a=b; session=42; c=d")]);
    let ip = crate::policy::fixture::CLIENT;
    let key = |on: On, headers: &HeaderMap| {
        let hash_on = Some(v1::HashOn { on: Some(on), set_cookie_ms: None });
        let config =
            v1::LoadBalancing { policy: LbPolicy::ConsistentHash.into(), hash_on, ..Default::default() };
        made(&config, &endpoints(&[1]), None, Instant::now()).key(headers, ip)
    };
    assert_eq!(key(On::Header("x-user".into()), &headers), Some(hash_key(b"ada")));
    assert_eq!(key(On::Cookie("session".into()), &headers), Some(hash_key(b"42")));
    assert_eq!(key(On::Cookie("sess".into()), &headers), None);
    assert_eq!(key(On::ClientIp(true), &headers), Some(hash_key(&[10, 0, 0, 7])));
    assert_eq!(key(On::Header("x-user".into()), &HeaderMap::new()), None);
}

fn owners(list: &v1::Endpoints, keys: u64) -> Vec<String> {
    let config = v1::LoadBalancing { policy: LbPolicy::ConsistentHash.into(), ..Default::default() };
    let now = Instant::now();
    let balancer = made(&config, list, None, now);
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
