//! The directory: what is wrong keeps the last good state serving and is said with its place; what is mended recovers.

use weft_api::v1::Kind;

use crate::harness::{MESH, ORDER, Operator, USER, folder, hello, instance};

const BAD: &str = "
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: user, namespace: shop}
spec:
  prots: [{name: http, port: 80}]
";

#[tokio::test]
async fn a_bad_manifest_keeps_the_last_good_state_until_it_is_mended() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    proxy.want("shop/user:http").await;
    proxy.until(Kind::Destination, "shop/user:http", |_| true).await;
    proxy.assert_quiet().await;

    operator.write("user.yaml", BAD);
    let status = operator.until("the problem", |status| !status.problems.is_empty()).await;
    let problem = &status.problems.iter().find(|problem| problem.field.contains("prots")).unwrap();
    assert!(problem.file.ends_with("user.yaml"), "{problem}");
    assert_eq!((problem.line, problem.column), (6, 3), "{problem}");
    assert!(problem.resource.contains("user") && !problem.remedy.is_empty(), "{problem}");
    assert!(operator.metric("weft_config_rejected_total").await > 0.0);
    assert_eq!(operator.admin("/ready").await.0, 200);
    assert!(status.services.iter().any(|service| service.name == "user"));
    proxy.assert_quiet().await;

    operator.write("user.yaml", &USER.replace("port: 80,", "port: 81,"));
    operator.until("recovery", |status| status.problems.is_empty()).await;
    proxy.until(Kind::Destination, "shop/user:http", |_| true).await;
}

#[tokio::test]
async fn an_operator_started_on_a_bad_manifest_serves_once_it_is_mended() {
    let folder = folder(&[("mesh.yaml", MESH), ("user.yaml", BAD)], &[instance("user", 0)]);
    let mut operator = Operator::start(folder).await;
    operator.until("the problem", |status| !status.problems.is_empty()).await;
    assert_eq!(operator.admin("/ready").await.0, 503);
    assert_eq!(operator.admin("/live").await.0, 200);
    operator.write("user.yaml", USER);
    operator.until_ready().await;
    operator.proxy("user", 0).await.next().await;
}

#[tokio::test]
async fn a_resource_that_is_there_twice_is_refused_with_both_places() {
    let operator = Operator::of_shop().await;
    operator.write("again.yaml", USER);
    let status = operator.until("the problem", |status| !status.problems.is_empty()).await;
    let text = status.problems[0].to_string();
    assert!(
        text.contains("again.yaml") && text.contains("user.yaml") && text.contains("shop/user"),
        "{text}"
    );
}

#[tokio::test]
async fn another_trust_domain_is_refused_while_the_authority_is_there() {
    let operator = Operator::of_shop().await;
    operator.write("mesh.yaml", &MESH.replace("mesh.test", "other.test"));
    let status = operator.until("the problem", |status| !status.problems.is_empty()).await;
    let text = status.problems[0].to_string();
    assert!(text.contains("mesh.yaml:2") && text.contains("spec.trustDomain"), "{text}");
    assert!(text.contains("mesh.test") && text.contains("other.test"), "{text}");
    assert_eq!(status.trust_domain, "mesh.test");
}

#[tokio::test]
async fn broken_instances_keep_the_last_known_ones() {
    let operator = Operator::of_shop().await;
    let path = operator.folder.path().join("state/instances.json");
    for write in [|path| std::fs::write(path, "{\n]"), |path| std::fs::remove_file(path)] {
        write(&path).unwrap();
        let status = operator.until("the problem", |status| !status.problems.is_empty()).await;
        assert!(status.problems[0].file.ends_with("instances.json"));
        assert!(status.services.iter().all(|service| service.instances.len() == 1));
        operator.write_instances(&[instance("user", 0), instance("order", 0)]);
        operator.until("recovery", |status| status.problems.is_empty()).await;
    }
}

#[tokio::test]
async fn manifests_get_the_namespace_of_the_run_file() {
    let bare = ORDER.replace(", namespace: shop", "");
    let run = "namespace: shop\nservices: {order: {command: [shop-order]}}\n";
    let files = [("mesh.yaml", MESH), ("order.yaml", &*bare), ("weft.yaml", run)];
    let operator = Operator::serving(&files, &[instance("order", 0)]).await;
    operator.proxy_with(hello("order", 0)).await.next().await;
    operator.write("weft.yaml", "namespace: [shop\n");
    let status = operator.until("the problem", |status| !status.problems.is_empty()).await;
    assert!(status.problems[0].file.ends_with("weft.yaml") && status.problems[0].line > 0, "{status:?}");
    assert_eq!(status.services[0].namespace, "shop");
}

#[tokio::test]
async fn the_world_and_metrics_are_shown_without_secrets() {
    let operator = Operator::of_shop().await;
    let (code, world) = operator.admin("/debug/world").await;
    assert_eq!(code, 200);
    assert!(world.contains("Microservice shop/order") && world.contains("shop/user:http"), "{world}");
    assert!(!world.contains(&instance("order", 0).token_sha256));
    let (_, metrics) = operator.admin("/metrics").await;
    for name in ["weft_operator_streams", "weft_operator_pushes_total", "weft_operator_resources"] {
        assert!(metrics.contains(name), "{name} missing in {metrics}");
    }
    assert_eq!(operator.metric("weft_operator_resources{kind=\"Microservice\"}").await.to_string(), "2");
}

#[tokio::test]
async fn what_is_wrong_only_with_other_objects_beside_it_has_its_place_too() {
    let operator = Operator::of_shop().await;
    let global = "  rateLimits: [{requests: 100, per: 1m, key: client-ip, scope: Global}]\n";
    operator.write("user.yaml", &format!("{USER}{global}"));
    let status = operator.until("the problem", |status| !status.problems.is_empty()).await;
    let problem = &status.problems[0];
    let column = u32::try_from(global.find("Global").unwrap()).unwrap() + 1;
    assert_eq!((problem.line, problem.column), (7, column), "{problem}");
    assert!(problem.file.ends_with("user.yaml") && problem.field == "spec.rateLimits[0].scope", "{problem}");
}

#[tokio::test]
async fn manifests_that_were_made_in_the_state_folder_are_read_too() {
    let folder = folder(&[("mesh.yaml", MESH)], &[instance("user", 0)]);
    let made = folder.path().join("state").join(weft_api::names::GENERATED_FOLDER);
    std::fs::create_dir(&made).unwrap();
    std::fs::write(made.join("user.yaml"), USER).unwrap();
    let mut operator = Operator::start(folder).await;
    operator.until_ready().await;
    operator.proxy("user", 0).await.next().await;
}
