//! The chat page in a browser, through the gateway, with two people and two instances.

use serde_json::json;
use weft_e2e::client::get;

use crate::browser::{Browser, Page};
use crate::shop::Shop;

/// Ids of the messages on the page, in its order.
const IDS: &str = "[...document.querySelectorAll('#log li[data-id]')].map((li) => Number(li.dataset.id))";

async fn log_in(page: &Page<'_>, email: &str, password: &str) {
    page.type_into("email", email).await;
    page.type_into("password", password).await;
    page.press("#login button").await;
}

async fn say(page: &Page<'_>, text: &str) {
    page.type_into("text", text).await;
    page.press("#write button").await;
}

fn shows(text: &str) -> String {
    let text = json!(text);
    format!("[...document.querySelectorAll('#log .text')].some((one) => one.textContent === {text})")
}

fn here(names: &[&str]) -> String {
    let names = json!(names);
    format!(
        "JSON.stringify([...document.querySelectorAll('#people li')].map((li) => li.textContent)) === JSON.stringify({names})"
    )
}

#[tokio::test]
async fn two_people_talk_while_an_instance_goes() {
    const MARKUP: &str = "<img src=x onerror=\"document.title='broken in'\"><b>bold</b> &amp; 'quotes'";
    let mut shop = Shop::open("15m").await;
    let answer = get(shop.gateway, "/api/chat").await;
    let policy = answer.header("content-security-policy").to_owned();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
        "{policy}"
    );
    let (ann, bob) = (shop.register("Ann").await, shop.register("Bob").await);
    let url = format!("http://{}/api/chat", shop.gateway);
    let browser = Browser::start().await;
    let (anns, bobs) = (browser.open(&url).await, browser.open(&url).await);

    log_in(&anns, &ann.0, "a wrong password").await;
    anns.until("the wrong password is told", "document.getElementById('problem').textContent.length > 0")
        .await;
    log_in(&anns, &ann.0, ann.1).await;
    log_in(&bobs, &bob.0, bob.1).await;
    for page in [&anns, &bobs] {
        page.until("it is connected", "document.getElementById('status').textContent === 'Connected'").await;
        page.until("both are there", &here(&["Ann", "Bob"])).await;
    }

    say(&anns, "hello").await;
    say(&anns, MARKUP).await;
    for page in [&anns, &bobs] {
        page.until("the message is there as it was written", &shows(MARKUP)).await;
        assert_eq!(
            page.value("document.images.length + document.querySelectorAll('#log b').length").await,
            0
        );
        assert_eq!(page.value("document.title").await, "Chat");
    }
    bobs.type_into("text", "I am").await;
    anns.until("Bob types", "document.getElementById('typing').textContent === 'Bob is typing…'").await;

    // Both find the instance that is left, and nobody misses anything or sees it twice.
    shop.stop_chat(0).await;
    say(&anns, "still there?").await;
    bobs.until("the message comes", &shows("still there?")).await;
    say(&bobs, "yes").await;
    for page in [&anns, &bobs] {
        page.until("the answer comes", &shows("yes")).await;
        page.until("nothing waits to be sent", "document.querySelector('#log .waiting') === null").await;
        assert_eq!(page.value(IDS).await, json!([1, 2, 3, 4]));
    }
    // The password is nowhere any more, and the token is in no storage.
    assert_eq!(anns.value("document.getElementById('password').value").await, "");
    assert_eq!(anns.value("localStorage.length + sessionStorage.length + document.cookie.length").await, 0);
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn everything_on_the_page_has_a_name_and_an_expired_login_is_told() {
    let shop = Shop::open("8s").await;
    let (email, password) = shop.register("Ann").await;
    let browser = Browser::start().await;
    let page = browser.open(&format!("http://{}/api/chat", shop.gateway)).await;
    for (what, expression) in [
        (
            "fields have labels",
            "[...document.querySelectorAll('input')].every((one) => one.labels.length === 1)",
        ),
        (
            "buttons have names",
            "[...document.querySelectorAll('button')].every((one) => one.textContent.trim() !== '')",
        ),
        ("the language is known", "document.documentElement.lang === 'en'"),
        (
            "what changes is told",
            "['status', 'log', 'problem'].every((id) => document.getElementById(id).hasAttribute('role'))",
        ),
        (
            "nothing is loaded from elsewhere",
            "performance.getEntriesByType('resource').every((one) => one.name.startsWith(location.origin))",
        ),
    ] {
        assert_eq!(page.value(expression).await, true, "{what}");
    }
    log_in(&page, &email, password).await;
    page.until("it is connected", "document.getElementById('status').textContent === 'Connected'").await;
    assert_eq!(page.value("document.activeElement.id").await, "text");
    page.until("the login has expired", "document.getElementById('problem').textContent.includes('expired')")
        .await;
    assert_eq!(page.value("document.getElementById('login').hidden").await, false);
    assert_eq!(page.value("document.activeElement.id").await, "email");
}
