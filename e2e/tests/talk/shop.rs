//! The user service and two instances of chat in this process, behind their proxies and a gateway.

use std::net::SocketAddr;

use bytes::Bytes;
use clap::Parser as _;
use serde_json::{Value, json};
use shop_kit::testing::{Running, database, redis};
use weft_e2e::client::{get, request, send};
use weft_e2e::mesh::Mesh;

const PASSWORD: &str = "correct horse battery";
const KEYS: &str = r#"{uri: "http://user.shop.svc/.well-known/jwks.json"}"#;

/// What runs.
pub(crate) struct Shop {
    pub(crate) mesh: Mesh,
    pub(crate) chats: Vec<Running>,
    pub(crate) gateway: SocketAddr,
    _user: Running,
}

impl Shop {
    /// Opens the shop; tokens are valid for so long.
    pub(crate) async fn open(token_lifetime: &str) -> Self {
        let users = database().await;
        let settings = ["user", "--database-url", &users, "--token-lifetime", token_lifetime];
        let settings = shop_user::settings::Settings::parse_from(settings);
        let user =
            Running::start(|listeners, shutdown| shop_user::serve(settings, listeners, shutdown)).await;
        let (database, redis) = (database().await, redis().await);
        let mut chats = Vec::new();
        for instance in ["chat-0", "chat-1"] {
            let settings =
                ["chat", "--database-url", &database, "--redis-url", &redis, "--instance", instance];
            let settings = shop_chat::settings::Settings::parse_from(settings);
            let chat = Running::start(|listeners, shutdown| shop_chat::serve(settings, listeners, shutdown));
            chats.push(chat.await);
        }

        // The operator would fetch the keys; here they are in the manifests.
        let keys = get(address(&user), "/.well-known/jwks.json").await.text();
        let manifests = [
            include_str!("../../../examples/shop/user.yaml"),
            include_str!("../../../examples/shop/chat.yaml"),
            include_str!("../../../examples/shop/gateway.yaml"),
        ];
        let manifests = manifests.join("\n---\n").replace(KEYS, &format!("{{inline: '{keys}'}}"));
        let mut mesh = Mesh::new(&manifests);
        mesh.add("user-0", &[("http", address(&user))]);
        for (index, chat) in chats.iter().enumerate() {
            mesh.add(&format!("chat-{index}"), &[("http", address(chat))]);
        }
        mesh.add_gateway("public-0", &["http"]);
        let gateway = mesh.listener("public-0", "http");
        Self { mesh, chats, gateway, _user: user }
    }

    /// Registers somebody; answers with their e-mail address and password.
    pub(crate) async fn register(&self, name: &str) -> (String, &'static str) {
        let email = format!("{}@shop.example", name.to_lowercase());
        let body = json!({"email": email, "password": PASSWORD, "name": name});
        assert_eq!(self.post("/api/users", &body).await.0, 201);
        (email, PASSWORD)
    }

    /// Registers somebody and logs them in; answers with their token.
    pub(crate) async fn log_in(&self, name: &str) -> String {
        let (email, password) = self.register(name).await;
        let (status, body) =
            self.post("/api/users/login", &json!({"email": email, "password": password})).await;
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let post = request("POST", path).header("content-type", "application/json");
        let answer = send(self.gateway, post.body(Bytes::from(body.to_string())).unwrap()).await;
        (answer.status.as_u16(), answer.json())
    }

    /// Stops an instance of chat as a rollout does: the service is told, others learn that it is going.
    pub(crate) async fn stop_chat(&mut self, index: usize) {
        let chat = self.chats.remove(index);
        chat.begin_stop();
        self.mesh.stop(&format!("chat-{index}"), true).await;
        chat.stop().await.unwrap();
    }
}

fn address(service: &Running) -> SocketAddr {
    service.http.address().parse().unwrap()
}
