//! What of a status that changes a user must know: the events about an object, from what it held and what it holds now.
//!
//! Compared is with what the object itself held, so a leader that takes over does not say again what the one before it
//! said. Messages name who and what; what to do is in the condition's message.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use weft_core::status::Status;
use weft_crds::MicroserviceStatus;
use weft_crds::microservice::BreakerState;

/// An event about an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct News {
    /// Whether somebody should look.
    pub(super) warning: bool,
    /// One word in upper camel case, stable.
    pub(super) reason: String,
    pub(super) note: String,
}

impl News {
    pub(super) fn warning(reason: &str, note: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.to_owned(), note: note.into() }
    }

    fn normal(reason: &str, note: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.to_owned(), note: note.into() }
    }
}

/// What there is to say when a status replaces another.
pub(super) fn of(held: Option<&Status>, wanted: &Status) -> Vec<News> {
    let before = held.map(Status::conditions).unwrap_or_default();
    let mut news: Vec<News> =
        wanted.conditions().iter().filter_map(|now| of_condition(before, now)).collect();
    if let Status::Microservice(now) = wanted {
        let before = match held {
            Some(Status::Microservice(before)) => before.clone(),
            _ => MicroserviceStatus::default(),
        };
        news.extend(of_breaker(&before, now));
    }
    news
}

/// Conditions that mean something to a user when they turn; that instances come and go is not among them.
fn of_condition(before: &[Condition], now: &Condition) -> Option<News> {
    let before = before.iter().find(|before| before.type_ == now.type_);
    if before.is_some_and(|before| before.status == now.status && before.reason == now.reason) {
        return None;
    }
    let was_wrong = before.is_some_and(|before| before.status == "False");
    match (now.type_.as_str(), now.status.as_str()) {
        ("Accepted" | "Applied" | "ResolvedRefs", "False") => Some(News::warning(&now.reason, &now.message)),
        ("Meshed", "False") if now.reason == "NoProxy" => Some(News::warning("NoProxy", &now.message)),
        ("Secured", "False") if now.reason == "CertificateExpired" => {
            Some(News::warning("CertificateExpired", &now.message))
        }
        ("Programmed", "False") if now.reason != "AddressNotAssigned" => {
            Some(News::warning(&now.reason, &now.message))
        }
        ("Accepted", "True") if was_wrong => Some(News::normal("Accepted", "it is valid now and in force")),
        ("Applied", "True") => Some(News::normal("Applied", &now.message)),
        ("Secured", "True") if before.is_some_and(|before| before.reason == "CertificateExpired") => {
            Some(News::normal("CertificateRenewed", "every certificate holds again"))
        }
        _ => None,
    }
}

fn of_breaker(before: &MicroserviceStatus, now: &MicroserviceStatus) -> Option<News> {
    let parts = |status: &MicroserviceStatus| {
        let breaker = status.breaker.clone().unwrap_or_default();
        (breaker.state, breaker.open_for.into_iter().collect::<BTreeSet<String>>())
    };
    let ((before, open_before), (state, open)) = (parts(before), parts(now));
    let newly: Vec<&str> = open.difference(&open_before).map(String::as_str).collect();
    if !newly.is_empty() {
        let note =
            format!("opened by {}: its calls are refused until trial requests succeed", newly.join(", "));
        return Some(News::warning("CircuitOpened", note));
    }
    (before != BreakerState::Closed && state == BreakerState::Closed)
        .then(|| News::normal("CircuitClosed", "the circuit breakers of all callers are closed again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_crds::microservice::BreakerStatus;

    fn status(conditions: &[(&str, &str, &str)], breaker: Option<(BreakerState, &[&str])>) -> Status {
        let condition = |(kind, status, reason): &(&str, &str, &str)| Condition {
            type_: (*kind).into(),
            status: (*status).into(),
            reason: (*reason).into(),
            message: format!("why {reason}"),
            observed_generation: None,
            last_transition_time: weft_core::status::condition::time(0),
        };
        let breaker = breaker.map(|(state, open_for)| BreakerStatus {
            state,
            open_for: open_for.iter().map(|caller| (*caller).to_owned()).collect(),
        });
        Status::Microservice(MicroserviceStatus {
            conditions: conditions.iter().map(condition).collect(),
            breaker,
            ..MicroserviceStatus::default()
        })
    }

    fn check(held: Option<&Status>, wanted: &Status, expect: &[&str]) {
        let news = of(held, wanted);
        let reasons: Vec<&str> = news.iter().map(|news| news.reason.as_str()).collect();
        assert_eq!(reasons, expect, "{news:?}");
    }

    #[test]
    fn only_what_turns_is_said() {
        let good = status(&[("Accepted", "True", "Accepted"), ("Ready", "False", "NoInstances")], None);
        let bad = status(&[("Accepted", "False", "Invalid"), ("Ready", "True", "InstancesReady")], None);
        check(None, &good, &[]);
        check(Some(&good), &bad, &["Invalid"]);
        check(None, &bad, &["Invalid"]);
        check(Some(&bad), &bad, &[]);
        check(Some(&bad), &good, &["Accepted"]);
        let taken = status(&[("Applied", "False", "NameTaken")], None);
        let applied = status(&[("Applied", "True", "Applied")], None);
        check(None, &taken, &["NameTaken"]);
        check(Some(&taken), &applied, &["Applied"]);
    }

    #[test]
    fn proxies_and_certificates_that_are_missing_are_said() {
        let silent = status(&[("Meshed", "False", "ProxyNotConnected")], None);
        let bare = status(&[("Meshed", "False", "NoProxy")], None);
        check(Some(&silent), &bare, &["NoProxy"]);
        check(Some(&bare), &silent, &[]);
        let ended = status(&[("Secured", "False", "CertificateExpired")], None);
        let secured = status(&[("Secured", "True", "MutualTls")], None);
        check(Some(&secured), &ended, &["CertificateExpired"]);
        check(Some(&ended), &secured, &["CertificateRenewed"]);
    }

    #[test]
    fn a_breaker_names_who_opened_it() {
        let closed = status(&[], Some((BreakerState::Closed, &[])));
        let one = status(&[], Some((BreakerState::Open, &["shop/order"])));
        let two = status(&[], Some((BreakerState::Open, &["shop/order", "shop/user"])));
        let half = status(&[], Some((BreakerState::HalfOpen, &[])));
        check(Some(&closed), &one, &["CircuitOpened"]);
        assert!(of(None, &one)[0].note.contains("shop/order"));
        let news = of(Some(&one), &two);
        assert!(news[0].note.contains("shop/user") && !news[0].note.contains("shop/order"));
        check(Some(&two), &one, &[]);
        check(Some(&one), &half, &[]);
        check(Some(&half), &closed, &["CircuitClosed"]);
        check(None, &closed, &[]);
    }
}
