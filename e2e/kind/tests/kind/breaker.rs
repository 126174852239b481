//! The circuit breaker, as the caller and as `kubectl get msvc` see it.

use anyhow::{Context, Result, ensure};
use weft_crds::microservice::BreakerState;
use weft_e2e_kind::command::run;
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::wait::eventually;
use weft_e2e_kind::{ROLLOUT, SOON};

use crate::apps::{expect, is, labels, service};

const BREAKER: &str = "
  resilience:
    circuitBreaker: {consecutiveFailures: 5, openFor: 5s, halfOpenRequests: 3}
";

/// Open after five failures, told by kubectl with who opened it, closed again when product is well.
pub(crate) async fn opens_when_product_fails_and_closes_again(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("product", 1, BREAKER)).await?;
    mesh.apply(&service("order", 1, "")).await?;
    tokio::try_join!(mesh.in_service("product"), mesh.in_service("order"))?;
    let product = mesh.place_of(&labels("product")).await?;
    let order = mesh.place_of(&labels("order")).await?;
    expect(&order.get("http://product/").await?, 200, "", "order reaches product")?;

    let fail = async |on: bool| {
        // Through no proxy: product itself is told.
        let url = format!("http://127.0.0.1:8080/fail?on={on}");
        expect(&product.call(&["-X", "POST", &url]).await?, 200, "", "product is told to fail or not to")
    };
    fail(true).await?;
    let answers = order.calls(&["--times", "8", "http://product/"]).await?;
    let failed = answers.iter().filter(|answer| answer.status == Some(500)).count();
    let last = answers.last().context("eight answers")?;
    ensure!(failed == 5, "5 requests should have reached product, {failed} did; the last: {}", last.told());
    expect(last, 503, "circuit-open", "after five failures")?;

    let caller = format!("{}/order", mesh.name);
    mesh.status("product", "the breaker is open for order", |status| {
        let breaker = status.breaker.as_ref()?;
        (breaker.state == BreakerState::Open && breaker.open_for.contains(&caller)).then_some(())
    })
    .await?;
    let table = run("kubectl", &["-n", &mesh.name, "get", "msvc", "product"]).await?;
    ensure!(table.contains("Open"), "`kubectl get msvc product` does not say Open:\n{table}");

    fail(false).await?;
    eventually("order reaches product again", SOON, || async {
        is(order.get("http://product/").await, 200, "")
    })
    .await?;
    let closed = eventually("the breaker closes", ROLLOUT, || async {
        // Trial requests close it.
        is(order.get("http://product/").await, 200, "")?;
        let service = mesh.api::<weft_crds::Microservice>().get_status("product").await;
        let status = service.map_err(|error| error.to_string())?.status.unwrap_or_default();
        let state = status.breaker.map(|breaker| breaker.state);
        if state == Some(BreakerState::Closed) { Ok(()) } else { Err(format!("{state:?}")) }
    });
    closed.await
}
