//! Roots over time: at every moment every two workloads verify each other, whatever the ages of their certificates.

use proptest::prelude::*;

use super::*;

const MONTH: Duration = Duration::from_hours(30 * 24);

fn identity(root_lifetime: Duration, overlap: Duration) -> Identity {
    let seconds = |duration: Duration| weft_crds::Duration::from_secs(duration.as_secs());
    Identity { root_lifetime: seconds(root_lifetime), root_overlap: seconds(overlap), ..Identity::default() }
}

fn policy(root_lifetime: Duration, overlap: Duration, life: Duration) -> Policy<'static> {
    Policy::new(&identity(root_lifetime, overlap), Some(life))
}

fn never(_: &CertificateDer<'_>) -> bool {
    false
}

#[test]
fn a_successor_is_trusted_first_and_signs_once_every_certificate_is_younger() {
    let policy = policy(YEAR, MONTH, DAY);
    let mut ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    ca.turn_over(NOW, &policy, never).unwrap();
    let first = ca.roots()[0].clone();
    let end = NOW + 365 * 86_400;
    assert!(!ca.turn_over(end - 31 * 86_400, &policy, never).unwrap());

    let joined = end - 30 * 86_400;
    assert!(ca.turn_over(joined, &policy, never).unwrap());
    assert_eq!((ca.roots().len(), &ca.roots()[0]), (2, &first));
    let settled = joined + 86_400 + 300;
    assert!(!ca.turn_over(settled - 1, &policy, never).unwrap());
    let second = ca.roots()[1].clone();

    let mut ca = Ca::from_pem("cluster.local", &ca.to_pem()).unwrap();
    assert!(ca.turn_over(settled, &policy, never).unwrap());
    assert_eq!(ca.roots(), [second.clone(), first]);
    let signed = ca.sign(&request(), &order(), settled, LIFE).unwrap();
    assert!(signed_by(&signed.chain[0], &second));

    assert!(!ca.turn_over(settled + 86_400 + 299, &policy, never).unwrap());
    assert!(ca.turn_over(settled + 86_400 + 300, &policy, never).unwrap());
    assert_eq!(ca.roots(), [second]);
}

#[test]
fn a_successor_that_everyone_trusts_signs_after_half_a_minute() {
    let mut ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let asked = |rotate| Policy { rotate, ..policy(YEAR, MONTH, DAY) };
    ca.turn_over(NOW, &asked("at the start"), never).unwrap();
    assert_eq!(ca.roots().len(), 1, "what was asked for before there was an authority is done");
    let first = ca.roots()[0].clone();
    assert!(ca.turn_over(NOW + 10, &asked("again"), |_| true).unwrap());
    let second = ca.joining().unwrap();
    assert!(!ca.turn_over(NOW + 39, &asked("again"), |_| true).unwrap());
    assert!(!ca.turn_over(NOW + 41, &asked("again"), |root| *root == first).unwrap());
    assert!(ca.turn_over(NOW + 42, &asked("again"), |root| *root == second).unwrap());
    assert_eq!(ca.roots(), [second.clone(), first.clone()]);
    let ca_again = Ca::from_pem("cluster.local", &ca.to_pem()).unwrap();
    let [workload, operator] = [Ca::sign, Ca::sign_own].map(|sign| {
        let signed = sign(&ca_again, &request(), &order(), NOW + 43, LIFE).unwrap();
        signed_by(&signed.chain[0], &first)
    });
    assert!(!workload && operator, "who has missed the new root can still ask the operator");
    assert!(!ca.turn_over(NOW + 43, &asked(""), never).unwrap(), "asking for nothing is no new wish");
}

#[test]
fn one_asked_for_while_another_joins_comes_after_it() {
    let mut ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let asked = |rotate| Policy { rotate, ..policy(YEAR, MONTH, DAY) };
    ca.turn_over(NOW, &asked(""), never).unwrap();
    ca.turn_over(NOW + 1, &asked("one"), never).unwrap();
    let one = ca.joining().unwrap();
    assert!(!ca.turn_over(NOW + 2, &asked("two"), never).unwrap());
    ca.turn_over(NOW + 60, &asked("two"), |_| true).unwrap();
    assert_eq!(ca.roots()[0], one);
    ca.turn_over(NOW + 61, &asked("two"), |_| true).unwrap();
    assert!(ca.joining().is_some_and(|two| two != one));
    assert_eq!(ca.roots().len(), 3);
}

#[test]
fn certificates_that_were_made_for_longer_are_waited_for() {
    let mut ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    ca.turn_over(NOW, &policy(YEAR, MONTH, DAY), never).unwrap();
    let old = ca.sign(&request(), &order(), NOW, LIFE).unwrap();
    let short = |rotate| Policy { rotate, ..policy(YEAR, MONTH, Duration::from_mins(1)) };
    ca.turn_over(NOW + 10, &short("now"), never).unwrap();
    let new = ca.sign(&request(), &order(), NOW + 10, LIFE).unwrap();
    assert_eq!((old.not_after, new.not_after), (NOW + 86_400, NOW + 70));
    assert!(!ca.turn_over(old.not_after + 60, &short("now"), never).unwrap());
    assert!(ca.turn_over(old.not_after + 300, &short("now"), never).unwrap());
}

#[test]
fn an_authority_that_slept_too_long_starts_anew() {
    let mut ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let later = NOW + 400 * 86_400;
    assert!(ca.turn_over(later, &policy(YEAR, MONTH, DAY), never).unwrap());
    assert_eq!(ca.roots().len(), 1);
    ca.sign(&request(), &order(), later, LIFE).unwrap();
}

#[test]
fn the_number_of_a_change_goes_up_even_if_the_clock_goes_back() {
    let mut ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    ca.turn_over(NOW, &policy(YEAR, MONTH, DAY), never).unwrap();
    let before = ca.changed();
    let asked = Policy { rotate: "x", ..policy(YEAR, MONTH, DAY) };
    ca.turn_over(NOW - 1000, &asked, never).unwrap();
    assert!(ca.changed() > before);
}

/// A workload with the newest certificate and roots it was given.
struct Workload {
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    not_after: i64,
    /// It may be late by this share of the time between renewal and end, in percent; its operator may be away.
    tardy: i64,
    renew_at: i64,
    /// Whether roots reach it at once.
    is_pushed: bool,
}

impl Workload {
    fn renew(&mut self, ca: &Ca, now: i64, life: Lifetime) {
        let signed = ca.sign(&request(), &order(), now, life).unwrap();
        let slack = (signed.not_after - signed.renew_at) * self.tardy / 100;
        self.renew_at = (signed.renew_at + slack).min(signed.not_after - 1);
        (self.chain, self.not_after, self.roots) = (signed.chain, signed.not_after, ca.roots());
    }
}

/// Runs a mesh through time, in steps; every two workloads must verify each other at each of them.
fn live(plan: &Plan) {
    let policy = policy(plan.root_life, plan.overlap, plan.life);
    let life = Lifetime { length: plan.life, renew_percent: 70 };
    let mut now = NOW;
    let mut ca = Ca::new("cluster.local", now, plan.root_life).unwrap();
    ca.turn_over(now, &policy, never).unwrap();
    let workload = |(is_pushed, tardy): &(bool, i64)| Workload {
        chain: vec![],
        roots: vec![],
        not_after: 0,
        tardy: *tardy,
        renew_at: 0,
        is_pushed: *is_pushed,
    };
    let mut workloads: Vec<Workload> = plan.workloads.iter().map(workload).collect();
    let mut signers = std::collections::BTreeSet::new();
    let mut wish = String::new();
    for (step, wait) in plan.steps.iter().enumerate() {
        now += *wait;
        if plan.asks.contains(&step) {
            wish = step.to_string();
        }
        let trusts =
            |root: &CertificateDer<'_>| workloads.iter().all(|workload| workload.roots.contains(root));
        ca.turn_over(now, &Policy { rotate: &wish, ..policy.clone() }, trusts).unwrap();
        signers.insert(ca.roots()[0].to_vec());
        for workload in &mut workloads {
            if workload.is_pushed {
                workload.roots = ca.roots();
            }
            if workload.renew_at <= now {
                workload.renew(&ca, now, life);
            }
        }
        for shown in &workloads {
            for asks in &workloads {
                let verified = tls::verify(&shown.chain, &asks.roots, now);
                assert!(verified.is_ok(), "step {step} at {now}: {verified:?}, {ca:?}");
            }
        }
    }
    assert!(signers.len() > 1 || plan.asks.is_empty(), "no root ever turned over");
}

#[derive(Clone, Debug)]
struct Plan {
    root_life: Duration,
    overlap: Duration,
    life: Duration,
    workloads: Vec<(bool, i64)>,
    steps: Vec<i64>,
    asks: Vec<usize>,
}

fn plans() -> impl Strategy<Value = Plan> {
    let lives = (60_u64..90_000, 7_u64..40, 1_u64..100);
    let workloads = proptest::collection::vec((any::<bool>(), 0_i64..95), 2..4);
    // A step is short against what is left of a certificate at its renewal, as long as nobody is tardy.
    (lives, workloads, proptest::collection::vec(0_usize..60, 1..3)).prop_map(
        |((life, roots, overlap), workloads, asks)| {
            let root = life * roots;
            let step = i64::try_from(life).unwrap() / 80;
            Plan {
                root_life: Duration::from_secs(root),
                overlap: Duration::from_secs(root * overlap / 100),
                life: Duration::from_secs(life),
                workloads: workloads.into_iter().map(|(pushed, tardy)| (pushed, tardy.min(90))).collect(),
                steps: (0..300).map(|n| (step + n % 7 * step / 8).max(1)).collect(),
                asks,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_two_workloads_verify_each_other_at_every_moment(plan in plans()) {
        live(&plan);
    }
}
