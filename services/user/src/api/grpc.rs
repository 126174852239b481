//! The gRPC API, for other services. Which of them may call it is the mesh's business.

use std::sync::Arc;

use shop_kit::{
    errors::{FieldError, Problem},
    pb::{
        self,
        user::{
            CreateUserRequest, GetUserRequest, LoginRequest, LoginResponse, UpdateUserRequest,
            User as Message, ValidateTokenRequest, ValidateTokenResponse,
            user_service_server::{UserService, UserServiceServer},
        },
    },
};
use time::OffsetDateTime;
use tonic::{Request, Response, Status, service::Routes};
use uuid::Uuid;

use crate::domain::{
    Users,
    user::{Change, Registration, User},
};

/// The routes.
pub fn routes(users: Arc<Users>) -> Routes {
    Routes::new(UserServiceServer::new(Api(users)))
}

struct Api(Arc<Users>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl UserService for Api {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Answer<Message> {
        let CreateUserRequest { email, password, name } = request.into_inner();
        let input = Registration { email, password: password.into(), name };
        Ok(Response::new(message(self.0.register(input).await.map_err(Problem::from)?)))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Answer<Message> {
        let id = id(&request.get_ref().id)?;
        Ok(Response::new(message(self.0.get(id).await.map_err(Problem::from)?)))
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Answer<Message> {
        let request = request.into_inner();
        let change =
            Change { email: request.email, password: request.password.map(Into::into), name: request.name };
        let user = self.0.change(id(&request.id)?, change).await.map_err(Problem::from)?;
        Ok(Response::new(message(user)))
    }

    async fn login(&self, request: Request<LoginRequest>) -> Answer<LoginResponse> {
        let LoginRequest { email, password } = request.into_inner();
        let issued = self.0.log_in(&email, password).await.map_err(Problem::from)?;
        Ok(Response::new(LoginResponse {
            access_token: issued.token,
            token_type: "Bearer".into(),
            expires_in: i64::try_from(issued.lifetime.as_secs()).unwrap_or(i64::MAX),
        }))
    }

    async fn validate_token(&self, request: Request<ValidateTokenRequest>) -> Answer<ValidateTokenResponse> {
        let checked = self.0.validate(&request.get_ref().token).await.map_err(Problem::from)?;
        Ok(Response::new(match checked {
            Ok(claims) => ValidateTokenResponse {
                valid: true,
                user_id: claims.sub.to_string(),
                role: claims.role.as_str().into(),
                expires: OffsetDateTime::from_unix_timestamp(claims.exp).ok().map(pb::timestamp),
                reason: String::new(),
            },
            Err(reason) => ValidateTokenResponse { reason: reason.to_string(), ..Default::default() },
        }))
    }
}

fn id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::invalid(vec![FieldError::new("id", "is not a UUID")]))
}

fn message(user: User) -> Message {
    Message {
        id: user.id.to_string(),
        email: user.email.to_string(),
        name: user.name,
        role: user.role.as_str().into(),
        created: Some(pb::timestamp(user.created)),
    }
}
