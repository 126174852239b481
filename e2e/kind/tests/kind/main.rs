//! The tests on a cluster, one file per capability. `make e2e` makes the cluster and runs all of them; against a cluster
//! of KUBECONFIG, `cargo test -p weft-e2e-kind --features cluster --test kind -- breaker` runs those with that word in
//! their name, and leaves the installation.

mod addresses;
mod apps;
mod authorization;
mod breaker;
mod chat;
mod cli;
mod identity;
mod injection;
mod install;
mod jobs;
mod jwt;
mod mtls;
mod notification;
mod outage;
mod owned;
mod passthrough;
mod payment;
mod refusal;
mod rollout;
mod shop;
mod tickets;
mod trouble;
mod upgrade;
mod websocket;

use std::process::ExitCode;

use clap::Parser;
use weft_e2e_kind::cluster::Cluster;
use weft_e2e_kind::runner::{self, Test, When, test};
use weft_e2e_kind::settings::Settings;

fn tests() -> Vec<Test> {
    use When::{Alone, First, Last, Together};
    vec![
        test(First, install::installs_from_nothing),
        // The longest first, so that none of them is waited for in the end.
        test(Together, shop::tour_through_the_gateway),
        test(Together, rollout::no_request_fails_while_instances_are_replaced_and_scaled),
        test(Together, websocket::survives_configuration_pushes),
        test(Together, owned::objects_belong_to_the_microservice_and_go_with_it),
        test(Together, owned::drift_is_put_right),
        test(Together, owned::scaling_by_hand_is_respected_under_an_autoscaler),
        test(Together, breaker::opens_when_product_fails_and_closes_again),
        test(Together, mtls::plain_text_is_refused_under_strict_and_taken_under_permissive),
        test(Together, mtls::between_pods_goes_tls_and_no_payload),
        test(Together, authorization::wrong_service_account_is_refused_and_the_rule_named),
        test(Together, jwt::missing_wrong_and_right_tokens),
        test(Together, jobs::job_completes_although_it_has_a_sidecar),
        test(Together, addresses::stateful_pods_are_reached_by_their_own_names),
        test(Together, addresses::server_may_speak_first),
        test(Together, addresses::postgres_and_redis_are_reached_from_a_meshed_pod),
        test(Together, addresses::external_names_and_strangers_are_reached),
        test(Together, passthrough::connections_go_where_their_server_name_leads),
        test(Together, injection::labels_and_annotations_decide),
        test(Together, injection::probes_work_under_strict),
        test(Together, injection::bad_annotations_refuse_the_pod),
        test(Together, refusal::bad_microservices_are_refused_with_field_and_remedy),
        test(Together, trouble::conflicting_microservices_are_told),
        test(Together, trouble::missing_secret_is_told_and_the_rest_works),
        test(Together, trouble::unreachable_keys_are_told_and_the_rest_works),
        test(Together, trouble::unknown_fields_of_routes_are_told),
        test(Together, cli::weft_sees_the_cluster),
        test(Alone, rollout::no_request_fails_while_the_operators_are_restarted),
        test(Alone, identity::certificates_are_renewed_under_load),
        test(Alone, identity::root_is_rotated_under_load),
        test(Alone, outage::traffic_goes_on_and_nothing_starts_unmeshed_without_operators),
        test(Alone, upgrade::no_request_fails_while_the_chart_is_upgraded),
        test(Last, install::uninstall_leaves_nothing),
    ]
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::parse();
    let tests = tests();
    if settings.list {
        runner::list(&tests);
        return ExitCode::SUCCESS;
    }
    let passed = match Cluster::connect(settings).await {
        Ok(cluster) => runner::run(&cluster, tests).await,
        Err(error) => complain(&error),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stderr, reason = "this is where it is told that nothing could be run")]
fn complain(error: &anyhow::Error) -> bool {
    eprintln!("error: {error:#}");
    false
}
