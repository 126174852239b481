//! Scenarios of a plan, with time as an argument.

use serde_json::Value;
use weft_core::render::Owned;
use weft_core::world::ObjectKind;

use super::*;

const DEPLOYMENT: OwnedKind = OwnedKind::Deployment;
const SERVICE: OwnedKind = OwnedKind::Service;
const BUDGET: OwnedKind = OwnedKind::PodDisruptionBudget;

fn owner(name: &str) -> ObjectRef {
    ObjectRef::new(ObjectKind::Microservice, Name::new("shop", name))
}

fn object(kind: OwnedKind) -> OwnedRef {
    OwnedRef { kind, name: Name::new("shop", "order") }
}

fn rendered(kinds: &[OwnedKind]) -> Arc<Rendered> {
    let owned = |kind: &OwnedKind| Owned { kind: *kind, name: "order".into(), body: Value::Null };
    Arc::new(Rendered { uid: "u1".into(), objects: kinds.iter().map(owned).collect() })
}

fn seen(fingerprint: u64) -> Seen {
    Seen { uid: "o1".into(), owner_uid: "u1".into(), fingerprint }
}

fn done(kinds: &[(OwnedKind, u64)]) -> Ended {
    Ended::Done(kinds.iter().map(|(kind, fingerprint)| (object(*kind), *fingerprint)).collect())
}

/// A plan whose `order` has its Deployment.
fn settled(now: Instant) -> Plan {
    let mut plan = Plan::default();
    plan.want((owner("order"), Some(rendered(&[DEPLOYMENT]))), now);
    assert_eq!(plan.start(now).len(), 1);
    plan.see(&object(DEPLOYMENT), Some(seen(7)), now);
    plan.done(&owner("order"), done(&[(DEPLOYMENT, 7)]), now);
    plan
}

#[test]
fn what_is_wanted_is_done_once() {
    let now = Instant::now();
    let mut plan = settled(now);
    assert!(plan.start(now + CALM).is_empty() && plan.wake_at().is_none());
    plan.see(&object(DEPLOYMENT), Some(seen(7)), now);
    assert!(plan.start(now + CALM).is_empty(), "it is as it was applied");
}

#[test]
fn what_somebody_changed_or_deleted_is_put_right() {
    let now = Instant::now();
    for change in [Some(seen(8)), None] {
        let mut plan = settled(now);
        plan.see(&object(DEPLOYMENT), change, now);
        assert_eq!(plan.start(now).len(), 1);
    }
}

#[test]
fn what_is_changed_again_and_again_is_put_right_ever_more_seldom() {
    let mut now = Instant::now();
    let mut plan = settled(now);
    let mut waits = Vec::new();
    for round in 0..10 {
        plan.see(&object(DEPLOYMENT), Some(seen(100 + round)), now);
        let due = plan.wake_at().unwrap();
        waits.push(due - now);
        now = due;
        assert_eq!(plan.start(now).len(), 1);
        plan.done(&owner("order"), done(&[(DEPLOYMENT, 7)]), now);
    }
    assert_eq!(waits.first(), Some(&Duration::ZERO));
    assert!(waits.is_sorted() && waits.last() == Some(&PUT_RIGHT_AT_MOST), "{waits:?}");
    plan.see(&object(DEPLOYMENT), Some(seen(200)), now + CALM * 2);
    assert_eq!(plan.wake_at(), Some(now + CALM * 2), "after a calm time it is done at once again");
}

#[test]
fn a_change_during_a_job_is_looked_at_when_it_ends() {
    let now = Instant::now();
    let mut plan = settled(now);
    plan.want((owner("order"), Some(rendered(&[DEPLOYMENT]))), now);
    plan.start(now);
    plan.see(&object(DEPLOYMENT), Some(seen(9)), now);
    plan.done(&owner("order"), done(&[(DEPLOYMENT, 7)]), now);
    assert_eq!(plan.start(now).len(), 1, "9 is not what was applied");
    plan.see(&object(DEPLOYMENT), Some(seen(10)), now);
    plan.done(&owner("order"), done(&[(DEPLOYMENT, 10)]), now);
    assert!(plan.start(now + CALM).is_empty(), "10 is");
}

#[test]
fn what_is_wanted_no_more_is_deleted_but_only_what_it_made() {
    let now = Instant::now();
    let mut plan = settled(now);
    let others = Seen { owner_uid: "u2".into(), ..seen(1) };
    plan.see(&object(SERVICE), Some(others), now);
    plan.see(&object(BUDGET), Some(seen(3)), now);
    let jobs = plan.start(now);
    assert_eq!(jobs.first().map(|job| job.strays.clone()), Some(vec![(object(BUDGET), "o1".to_owned())]));
    plan.done(&owner("order"), done(&[(DEPLOYMENT, 7)]), now);
    plan.want((owner("order"), Some(rendered(&[]))), now);
    let jobs = plan.start(now);
    assert_eq!(jobs.first().map(|job| job.strays.clone()), Some(vec![(object(DEPLOYMENT), "o1".to_owned())]));
}

#[test]
fn nothing_is_touched_for_a_resource_that_is_gone_or_unknown() {
    let now = Instant::now();
    let mut plan = settled(now);
    plan.want((owner("order"), None), now);
    plan.see(&object(DEPLOYMENT), Some(seen(8)), now);
    plan.see(&object(BUDGET), Some(seen(8)), now);
    assert!(plan.start(now + CALM).is_empty());
}

#[test]
fn objects_missing_from_a_new_list_are_gone() {
    let now = Instant::now();
    let mut plan = settled(now);
    plan.see_all(SERVICE, HashMap::new(), now);
    assert!(plan.start(now).is_empty(), "that was another kind");
    plan.see_all(DEPLOYMENT, HashMap::new(), now);
    assert_eq!(plan.start(now).len(), 1);
}

#[test]
fn a_failure_is_tried_again_later_and_later_and_at_once_when_the_resource_changes() {
    let mut now = Instant::now();
    let mut plan = settled(now);
    plan.want((owner("order"), Some(rendered(&[DEPLOYMENT, SERVICE]))), now);
    let mut waits = Vec::new();
    for _ in 0..9 {
        assert_eq!(plan.start(now).len(), 1);
        plan.done(&owner("order"), Ended::Failed, now);
        let due = plan.wake_at().unwrap();
        waits.push(due - now);
        now = due;
    }
    assert_eq!(waits.first(), Some(&RETRY_AFTER));
    assert!(waits.is_sorted() && waits.last() == Some(&RETRY_AT_MOST), "{waits:?}");
    plan.want((owner("order"), Some(rendered(&[DEPLOYMENT]))), now);
    assert_eq!(plan.wake_at(), Some(now));
    plan.start(now);
    plan.want((owner("order"), Some(rendered(&[SERVICE]))), now);
    plan.done(&owner("order"), Ended::Failed, now);
    assert_eq!(plan.wake_at(), Some(now), "it changed while its job was under way");
}

#[test]
fn so_many_at_once_and_one_at_a_time_for_each() {
    let now = Instant::now();
    let mut plan = Plan::default();
    for n in 0..AT_ONCE + 3 {
        let rendered = Arc::new(Rendered { uid: n.to_string(), objects: vec![] });
        plan.want((owner(&n.to_string()), Some(rendered)), now);
    }
    assert_eq!(plan.start(now).len(), AT_ONCE);
    assert!(plan.start(now).is_empty() && plan.wake_at().is_none());
    plan.done(&owner("0"), done(&[]), now);
    assert_eq!(plan.wake_at(), Some(now));
    assert_eq!(plan.start(now).len(), 1);
}
