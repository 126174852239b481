//! The gRPC API, for other services. Which of them may call it is the mesh's business.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _};
use shop_kit::{
    cx::Cx,
    errors::{FieldError, Problem},
    page::Page,
    pb::{
        self,
        product::{
            GetProductRequest, Product as Message, ProductChange, SearchProductsRequest,
            SearchProductsResponse, UpdateStockRequest, WatchProductsRequest,
            product_service_server::{ProductService, ProductServiceServer},
        },
    },
};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};
use uuid::Uuid;

use crate::domain::{
    Products,
    product::{Product, StockChange},
};

/// The routes. Streams end when the service is told to stop.
pub fn routes(products: Arc<Products>, shutdown: CancellationToken) -> Routes {
    Routes::new(ProductServiceServer::new(Api { products, shutdown }))
}

struct Api {
    products: Arc<Products>,
    shutdown: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ProductService for Api {
    async fn get_product(&self, request: Request<GetProductRequest>) -> Answer<Message> {
        let product = self.products.get(id("id", &request.get_ref().id)?).await.map_err(Problem::from)?;
        Ok(Response::new(message(product)))
    }

    async fn search_products(
        &self,
        request: Request<SearchProductsRequest>,
    ) -> Answer<SearchProductsResponse> {
        let search = request.into_inner();
        let page = Page::new(Some(search.page), Some(search.per_page))?;
        let (found, total) = self.products.search(&search.query, page).await.map_err(Problem::from)?;
        Ok(Response::new(SearchProductsResponse {
            products: found.into_iter().map(message).collect(),
            total,
        }))
    }

    async fn update_stock(&self, request: Request<UpdateStockRequest>) -> Answer<Message> {
        let cx = Cx::of(&request);
        let request = request.into_inner();
        let change = StockChange {
            product_id: id("product_id", &request.product_id)?,
            delta: request.delta,
            operation: Some(request.operation_id).filter(|id| !id.is_empty()),
            revoke: request.revoke,
        };
        let product = self.products.update_stock(change, cx.deadline()).await.map_err(Problem::from)?;
        Ok(Response::new(message(product)))
    }

    type WatchProductsStream = Pin<Box<dyn Stream<Item = Result<ProductChange, Status>> + Send>>;

    async fn watch_products(
        &self,
        request: Request<WatchProductsRequest>,
    ) -> Answer<Self::WatchProductsStream> {
        let wanted =
            request.get_ref().ids.iter().map(|text| id("ids", text)).collect::<Result<Vec<_>, _>>()?;
        let changes = BroadcastStream::new(self.products.feed.subscribe());
        let changes = changes.filter_map(move |change| {
            let change = match change {
                Ok(product) if wanted.is_empty() || wanted.contains(&product.id) => {
                    Some(Ok(ProductChange { product: Some(message(product)) }))
                }
                Ok(_) => None,
                Err(BroadcastStreamRecvError::Lagged(missed)) => Some(Err(Status::data_loss(format!(
                    "{missed} changes were missed; read again, then watch"
                )))),
            };
            std::future::ready(change)
        });
        Ok(Response::new(Box::pin(changes.take_until(self.shutdown.clone().cancelled_owned()))))
    }
}

fn id(field: &str, text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::invalid(vec![FieldError::new(field, "is not a UUID")]))
}

fn message(product: Product) -> Message {
    Message {
        id: product.id.to_string(),
        name: product.name,
        description: product.description,
        price: product.price,
        currency: product.currency,
        stock: product.stock,
        updated: Some(pb::timestamp(product.updated)),
    }
}
