//! The supervisor with real processes: it starts, keeps alive, follows its files, and leaves nothing behind. Operator,
//! proxies and services are stand-ins (examples/stub.rs); the real ones are run by the e2e crate.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::{Fixture, entry, microservice, pid, stub, weft};

#[tokio::test]
async fn everything_starts_and_is_told_to_the_operator() {
    let fixture = Fixture::new(&["order", "user"]);
    let _run = fixture.run().await;
    let status = fixture.status().await;
    assert_eq!(status["run"]["ready"], true, "{status}");
    assert_eq!(status["mesh"]["version"], "stub", "{status}");
    let instances = fixture.instances();
    let names: Vec<&str> = instances.iter().map(|instance| instance["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["order-0", "user-0"]);
    for instance in &instances {
        assert_eq!(instance["ready"], true, "{instance}");
        assert_eq!(instance["tokenSha256"].as_str().unwrap().len(), 64, "{instance}");
        assert!(instance["outbound"]["default/user:http"].is_string(), "{instance}");
        assert_ne!(instance["ports"]["http"]["app"], instance["ports"]["http"]["peers"], "{instance}");
    }
    let ready: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture.path("shop/.weft/ready.json")).unwrap())
            .unwrap();
    assert!(
        ready["operator"]["admin"].is_string() && ready["instances"]["order-0"]["admin"].is_string(),
        "{ready}"
    );
    let (_, page) = fixture.ask(&["proxy", "breakers", "order"]).await;
    assert!(page.contains("\"path\":\"/breakers\""), "{page}");
}

#[tokio::test]
async fn what_dies_is_started_again() {
    let fixture = Fixture::new(&["order"]);
    let _run = fixture.run().await;
    for part in ["app", "proxy"] {
        let before = pid(&fixture.unit("order-0").await, part);
        kill(Pid::from_raw(i32::try_from(before).unwrap()), Signal::SIGKILL).unwrap();
        let back = |unit: &serde_json::Value| unit["ready"] == true && pid(unit, part) != before;
        let unit = fixture.until_unit("a restart", "order-0", back).await;
        assert_eq!(unit[part]["restarts"], 1, "{unit}");
        assert!(unit[part]["lastEnd"].as_str().unwrap().contains("SIGKILL"), "{unit}");
    }
}

#[tokio::test]
async fn a_new_service_starts_and_a_removed_one_stops_without_touching_others() {
    let fixture = Fixture::new(&["order"]);
    let _run = fixture.run().await;
    let order = pid(&fixture.unit("order-0").await, "app");
    fixture.write_services(&["order", "user"]);
    fixture.until_unit("the new service", "user-0", |unit| unit["ready"] == true).await;
    fixture.write_services(&["order"]);
    fixture.until_unit("its end", "user-0", serde_json::Value::is_null).await;
    assert_eq!(pid(&fixture.unit("order-0").await, "app"), order);
}

#[tokio::test]
async fn a_changed_entry_restarts_its_service_only() {
    let fixture = Fixture::new(&["order", "user"]);
    let _run = fixture.run().await;
    let before = [fixture.unit("order-0").await, fixture.unit("user-0").await].map(|unit| pid(&unit, "app"));
    let changed = format!("services:\n{}    env: {{COLOUR: blue}}\n{}", entry("order"), entry("user"));
    fixture.write("weft.yaml", &changed);
    let back = |unit: &serde_json::Value| unit["ready"] == true && pid(unit, "app") != before[0];
    fixture.until_unit("a restart", "order-0", back).await;
    assert_eq!(pid(&fixture.unit("user-0").await, "app"), before[1]);
}

#[tokio::test]
async fn a_bad_file_is_told_and_changes_nothing() {
    let fixture = Fixture::new(&["order"]);
    let run = fixture.run().await;
    let before = pid(&fixture.unit("order-0").await, "app");
    fixture.write("weft.yaml", &format!("services:\n{}    instnaces: 2\n", entry("order")));
    fixture.until("the refusal", || run.output().contains("are refused").then_some(())).await;
    let status = fixture.status().await;
    let problem = status["run"]["problems"][0].as_str().unwrap_or_default().to_owned();
    assert!(
        problem.contains("weft.yaml:4:5: services.order.instnaces: unknown field; did you mean `instances`?"),
        "{problem}"
    );
    assert_eq!(pid(&fixture.unit("order-0").await, "app"), before);
    fixture.write_services(&["order"]);
    fixture.until("the repair", || run.output().contains("all good").then_some(())).await;
    assert_eq!(fixture.status().await["run"]["problems"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_stopped_service_is_deregistered_and_comes_back() {
    let fixture = Fixture::new(&["order", "user"]);
    let _run = fixture.run().await;
    let (ok, text) = fixture.ask(&["stop", "order"]).await;
    assert!(ok, "{text}");
    assert_eq!(fixture.unit("order-0").await["wanted"], false);
    let gone = || (fixture.instances().len() == 1).then_some(());
    fixture.until("deregistration", gone).await;
    let (ok, text) = fixture.ask(&["start", "order"]).await;
    assert!(ok && text.contains("ready"), "{text}");
    let before = pid(&fixture.unit("order-0").await, "app");
    let (ok, text) = fixture.ask(&["restart", "order-0"]).await;
    assert!(ok, "{text}");
    assert_ne!(pid(&fixture.unit("order-0").await, "app"), before);
    let (ok, text) = fixture.ask(&["stop", "ordr"]).await;
    assert!(!ok && text.contains("did you mean `order`?"), "{text}");
}

#[tokio::test]
async fn sigterm_and_sigint_leave_no_process() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let fixture = Fixture::new(&["order", "user"]);
        let mut run = fixture.run().await;
        // Supervisor, guard, operator, and for each service a shell, its child and a proxy.
        assert!(fixture.processes().len() >= 9, "{:?}", fixture.processes());
        run.signal(signal);
        assert!(run.ended().await.success(), "{}", run.output());
        assert_eq!(fixture.processes(), [0; 0], "{}", run.output());
        assert!(!fixture.path("shop/.weft/ready.json").exists());
    }
}

#[tokio::test]
async fn a_killed_supervisor_leaves_no_process_and_can_be_started_again() {
    let fixture = Fixture::new(&["order"]);
    let mut run = fixture.run().await;
    run.signal(Signal::SIGKILL);
    run.ended().await;
    std::fs::remove_file(fixture.path("out.log")).unwrap();
    let mut again = fixture.run().await;
    again.signal(Signal::SIGTERM);
    again.ended().await;
    fixture.until_nothing_is_left().await;
}

#[tokio::test]
async fn a_service_deaf_to_sigterm_is_killed_in_the_end() {
    let fixture = Fixture::new(&[]);
    fixture.write("deaf.yaml", &microservice("deaf"));
    let script =
        format!("trap '' TERM; {} --listen ${{address}}:${{port.http}}; sleep 1000", stub().display());
    fixture.write("weft.yaml", &format!("services:\n  deaf:\n    command: [sh, -c, \"{script}\"]\n"));
    let mut run = fixture.run().await;
    run.signal(Signal::SIGTERM);
    run.ended().await;
    assert_eq!(fixture.processes(), [0; 0], "{}", run.output());
}

#[tokio::test]
async fn a_state_folder_has_one_run_and_others_get_other_addresses() {
    let fixture = Fixture::new(&["order"]);
    let run = fixture.run().await;
    let refused = fixture.start(&[]).ended_with_output(&fixture).await;
    assert!(refused.contains(&format!("pid {}", run.child.id().unwrap())), "{refused}");
    let other = fixture.path("other");
    let _second = fixture.start(&["--state", other.to_str().unwrap()]);
    let ready = || std::fs::read_to_string(other.join("ready.json")).ok();
    let ready = fixture.until("the second run", ready).await;
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let first = fixture.unit("order-0").await;
    assert_ne!(ready["instances"]["order-0"]["address"], first["address"]);
}

#[tokio::test]
async fn a_missing_program_is_named_with_what_to_do() {
    let fixture = Fixture::new(&[]);
    fixture.write("a.yaml", &microservice("a"));
    fixture.write("weft.yaml", "services:\n  a: {command: [no-such-program]}\n");
    let text = fixture.start(&[]).ended_with_output(&fixture).await;
    assert!(text.contains("there is no program `no-such-program`"), "{text}");
    assert_eq!(fixture.processes(), [0; 0]);
}

#[tokio::test]
async fn private_servers_come_up_with_their_databases() {
    let missing = ["redis-server", "initdb"].into_iter().find(|name| {
        let found =
            std::process::Command::new("sh").args(["-c", &format!("command -v {name}")]).output().unwrap();
        !found.status.success()
    });
    if let Some(missing) = missing {
        eprintln!("SKIPPED: {missing} is not installed");
        return;
    }
    let fixture = Fixture::new(&["order"]);
    let servers = "servers:\n  postgres: {databases: [users, orders]}\n  redis: {}\n";
    let env = "    env: {DATABASE_URL: \"${postgres}/orders\", REDIS_URL: \"${redis}\"}\n";
    fixture.write("weft.yaml", &format!("{servers}services:\n{}{env}", entry("order")));
    let mut run = fixture.run().await;
    let ready = std::fs::read_to_string(fixture.path("shop/.weft/ready.json")).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let url = format!("{}/orders", ready["servers"]["postgres"].as_str().unwrap());
    let query = std::process::Command::new("sh")
        .args([
            "-c",
            "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin | tr ' ' :) psql -At -c 'SELECT 1' \"$0\"",
            &url,
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&query.stdout).trim(), "1", "{query:?}");
    assert!(ready["servers"]["redis"].as_str().unwrap().starts_with("redis://:"), "{ready}");
    run.signal(Signal::SIGTERM);
    assert!(run.ended().await.success());
    assert_eq!(fixture.processes(), [0; 0], "{}", run.output());
}

#[test]
fn an_idle_machine_says_that_nothing_runs() {
    let dir = tempfile::tempdir().unwrap();
    // Nor is there a cluster.
    let output = weft()
        .arg("status")
        .current_dir(&dir)
        .env("XDG_RUNTIME_DIR", dir.path())
        .env("KUBECONFIG", dir.path().join("none"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("start a run with `weft run DIR`"), "{text}");
}
