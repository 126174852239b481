//! Who knows where users are reached: the user service, over gRPC.

use shop_kit::{
    client,
    cx::Cx,
    errors::Problem,
    neighbour::Neighbour,
    pb::user::{GetUserRequest, user_service_client::UserServiceClient},
};
use tonic::{Code, Status};
use uuid::Uuid;

/// Why a user could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is none of that id.
    #[error("no such user")]
    NoUser,
    /// The call failed.
    #[error(transparent)]
    Failed(Problem),
}

/// A user as far as they are told things.
#[derive(Clone, Debug)]
pub struct User {
    /// What they are called.
    pub name: String,
    /// Their e-mail address.
    pub email: String,
}

/// The user service.
pub struct Users {
    client: UserServiceClient<Neighbour>,
}

impl Users {
    /// That service.
    pub fn new(neighbour: Neighbour) -> Self {
        Self { client: UserServiceClient::new(neighbour) }
    }

    /// A user.
    pub async fn get(&self, cx: &Cx, id: Uuid) -> Result<User, CallError> {
        let request = cx.call(GetUserRequest { id: id.to_string() }).map_err(CallError::Failed)?;
        let refused = |status: Status| match status.code() {
            Code::NotFound => CallError::NoUser,
            _ => CallError::Failed(client::problem("user", &status)),
        };
        let user = self.client.clone().get_user(request).await.map_err(refused)?.into_inner();
        Ok(User { name: user.name, email: user.email })
    }
}
