//! Where the shop is: behind its gateway, or service by service past all proxies; and its databases, for the books.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

/// Which way requests take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// Through the gateway and the service's proxy.
    Mesh,
    /// To the services themselves, past all proxies.
    Direct,
}

impl Way {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Way::Mesh => "through two proxies",
            Way::Direct => "direct",
        }
    }
}

/// Where the shop is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Site {
    /// `http://host:port` of the gateway.
    pub(crate) gateway: Option<String>,
    /// `http://host:port` of the instances of each service.
    pub(crate) services: BTreeMap<String, Vec<String>>,
    /// URL of each database.
    pub(crate) databases: BTreeMap<String, String>,
}

impl Site {
    /// What `weft run` says in its state folder.
    pub(crate) fn of_run(state: &Path) -> Result<Self> {
        let ready = read(&state.join("ready.json"))
            .context("is it a state folder of `weft run`, and everything up?")?;
        let plan = read(&state.join("plan.json"))?;
        let gateways = ready["gateways"].as_object().into_iter().flat_map(|gateways| gateways.values());
        let urls = gateways.flat_map(|urls| urls.as_array().into_iter().flatten()).filter_map(Value::as_str);
        let gateway = urls
            .filter(|url| url.starts_with("http://"))
            .map(|url| url.trim_end_matches('/').to_owned())
            .next();
        let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (instance, place) in plan["places"].as_object().into_iter().flatten() {
            let (Some((service, _)), Some(address)) = (instance.rsplit_once('-'), place["address"].as_str())
            else {
                continue;
            };
            if let Some(port) = place["ports"]["app:http"].as_u64() {
                services.entry(service.to_owned()).or_default().push(format!("http://{address}:{port}"));
            }
        }
        let postgres = ready["servers"]["postgres"].as_str().unwrap_or_default().to_owned();
        let names = ["users", "products", "orders", "tickets", "chats", "payments"];
        let databases = names.map(|name| (name.to_owned(), format!("{postgres}/{name}"))).into();
        Ok(Self {
            gateway,
            services,
            databases: if postgres.is_empty() { BTreeMap::new() } else { databases },
        })
    }

    /// Adds what was named by hand: `ticket=http://host:port`.
    pub(crate) fn add_service(&mut self, name: &str, url: &str) {
        self.services.entry(name.to_owned()).or_default().push(url.to_owned());
    }

    /// Where requests to that service go, before the path that the service itself knows (`/tickets`).
    pub(crate) fn bases(&self, service: &str, way: Way) -> Result<Vec<String>> {
        match way {
            Way::Mesh => {
                let gateway = self
                    .gateway
                    .as_ref()
                    .context("no gateway is known: name it with --url, or use --state")?;
                Ok(vec![format!("{gateway}/api")])
            }
            Way::Direct => match self.services.get(service).filter(|urls| !urls.is_empty()) {
                Some(urls) => Ok(urls.clone()),
                None => bail!(
                    "no address of {service} is known: name it with --service {service}=http://host:port, or use --state"
                ),
            },
        }
    }

    /// The URL of a database, if it is known.
    pub(crate) fn database(&self, name: &str) -> Option<&str> {
        self.databases.get(name).map(String::as_str)
    }
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

/// Reads `http://host:port`.
pub(crate) fn url(text: &str) -> Result<String, String> {
    let uri: http::Uri = text.parse().map_err(|_| "expected http://host:port".to_owned())?;
    let plain = uri.scheme_str() == Some("http")
        && uri.authority().is_some()
        && uri.path().len() <= 1
        && uri.query().is_none();
    if plain { Ok(text.trim_end_matches('/').to_owned()) } else { Err("expected http://host:port".into()) }
}

/// Reads `name=value`.
pub(crate) fn named(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected name=URL")?;
    if name.is_empty() || value.is_empty() {
        Err("expected name=URL".into())
    } else {
        Ok((name.into(), value.into()))
    }
}

/// Reads `ticket=http://host:port`.
pub(crate) fn named_url(text: &str) -> Result<(String, String), String> {
    let (name, value) = named(text)?;
    Ok((name, url(&value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_run_say_where_everything_is() {
        let dir = tempfile::tempdir().unwrap();
        let ready = r#"{"gateways": {"public": ["https://127.0.0.1:8443/", "http://127.0.0.1:8080/"]},
            "servers": {"postgres": "postgres://me:secret@127.0.0.2:5432"}}"#;
        let plan = r#"{"places": {"ticket-0": {"address": "127.0.4.1", "ports": {"app:http": 8080, "in:http": 15200}},
            "ticket-1": {"address": "127.0.4.2", "ports": {"app:http": 8080}}, "postgres": {"address": "127.0.0.2", "ports": {}}}}"#;
        std::fs::write(dir.path().join("ready.json"), ready).unwrap();
        std::fs::write(dir.path().join("plan.json"), plan).unwrap();
        let site = Site::of_run(dir.path()).unwrap();
        assert_eq!(site.bases("ticket", Way::Mesh).unwrap(), ["http://127.0.0.1:8080/api"]);
        assert_eq!(
            site.bases("ticket", Way::Direct).unwrap(),
            ["http://127.0.4.1:8080", "http://127.0.4.2:8080"]
        );
        assert_eq!(site.database("users"), Some("postgres://me:secret@127.0.0.2:5432/users"));
        let text = site.bases("chat", Way::Direct).unwrap_err().to_string();
        assert!(text.contains("--service chat="), "{text}");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "localhost:80", "https://x", "http://x/path", "http://x?q"] {
            assert!(url(text).is_err(), "{text}");
        }
        assert_eq!(url("http://x:80/").as_deref(), Ok("http://x:80"));
        assert!(named_url("ticket").is_err() && named_url("=http://x").is_err());
    }
}
