//! The gRPC API, for other services. Which of them may call it is the mesh's business.

use std::sync::Arc;

use shop_kit::{
    cx::Cx,
    errors::{FieldError, Problem},
    page::Page,
    pb::{
        self,
        order::{
            CancelOrderRequest, CreateOrderRequest, GetOrderRequest, ListOrdersRequest, ListOrdersResponse,
            Order as Message, OrderItem, PayOrderRequest, UpdateOrderStatusRequest,
            order_service_server::{OrderService, OrderServiceServer},
        },
    },
    service::Service,
};
use tonic::{Request, Response, Status as GrpcStatus, service::Routes};
use uuid::Uuid;

use crate::domain::{
    Error, Orders,
    order::{Draft, Item, Order, Status},
};

/// The routes.
pub fn routes(orders: Arc<Orders>, service: Arc<Service>) -> Routes {
    Routes::new(OrderServiceServer::new(Api { orders, service }))
}

struct Api {
    orders: Arc<Orders>,
    service: Arc<Service>,
}

type Answer<T> = Result<Response<T>, GrpcStatus>;

#[tonic::async_trait]
impl OrderService for Api {
    async fn create_order(&self, request: Request<CreateOrderRequest>) -> Answer<Message> {
        let cx = Cx::of(&request);
        let request = request.into_inner();
        let item = |(i, item): (usize, &pb::order::NewItem)| {
            Ok((id(&format!("items[{i}].product_id"), &item.product_id)?, item.quantity))
        };
        let draft = Draft {
            user_id: id("user_id", &request.user_id)?,
            items: request.items.iter().enumerate().map(item).collect::<Result<_, Problem>>()?,
            key: Some(request.idempotency_key).filter(|key| !key.is_empty()),
            method: Some(request.payment_method).filter(|method| !method.is_empty()),
        };
        let orders = self.orders.clone();
        let placed = self.service.finish(async move { orders.place(&cx, draft).await }).await?;
        answer(placed)
    }

    async fn get_order(&self, request: Request<GetOrderRequest>) -> Answer<Message> {
        answer(self.orders.get(id("id", &request.get_ref().id)?, None).await)
    }

    async fn list_orders(&self, request: Request<ListOrdersRequest>) -> Answer<ListOrdersResponse> {
        let request = request.get_ref();
        let page = Page::new(Some(request.page), Some(request.per_page))?;
        let user = id("user_id", &request.user_id)?;
        let (found, total) = self.orders.list(user, page).await.map_err(Problem::from)?;
        Ok(Response::new(ListOrdersResponse { orders: found.into_iter().map(message).collect(), total }))
    }

    async fn update_order_status(&self, request: Request<UpdateOrderStatusRequest>) -> Answer<Message> {
        let cx = Cx::of(&request);
        let id = id("id", &request.get_ref().id)?;
        let status =
            Status::requested(&request.get_ref().status).map_err(Error::from).map_err(Problem::from)?;
        let orders = self.orders.clone();
        answer(self.service.finish(async move { orders.change_status(&cx, id, status).await }).await?)
    }

    async fn pay_order(&self, request: Request<PayOrderRequest>) -> Answer<Message> {
        let cx = Cx::of(&request);
        let id = id("id", &request.get_ref().id)?;
        let method = request.into_inner().payment_method;
        let orders = self.orders.clone();
        answer(self.service.finish(async move { orders.pay(&cx, id, None, &method).await }).await?)
    }

    async fn cancel_order(&self, request: Request<CancelOrderRequest>) -> Answer<Message> {
        let cx = Cx::of(&request);
        let id = id("id", &request.get_ref().id)?;
        let orders = self.orders.clone();
        answer(self.service.finish(async move { orders.cancel(&cx, id, None).await }).await?)
    }
}

fn answer(order: Result<Order, Error>) -> Answer<Message> {
    Ok(Response::new(message(order.map_err(Problem::from)?)))
}

fn id(field: &str, text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::invalid(vec![FieldError::new(field, "is not a UUID")]))
}

fn message(order: Order) -> Message {
    let item = |item: Item| OrderItem {
        product_id: item.product_id.to_string(),
        name: item.name,
        price: item.price,
        quantity: item.quantity,
    };
    Message {
        id: order.id.to_string(),
        user_id: order.user_id.to_string(),
        items: order.items.into_iter().map(item).collect(),
        total: order.total,
        currency: order.currency,
        status: order.status.as_str().into(),
        created: Some(pb::timestamp(order.created)),
        reason: order.reason,
    }
}
