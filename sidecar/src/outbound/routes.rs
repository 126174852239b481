//! Follows a route: answers with its redirect or to a preflight, or edits the request as its filters say and finds the backend's
//! destination. Stands before everything that belongs to the destination itself.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, LOCATION, VARY};
use http::uri::Uri;
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::config::snapshot::{Destination, Pinned};
use crate::cx::RequestCx;
use crate::http::answer::put_request_id;
use crate::http::body::Body;
use crate::http::upgrade::Inward;
use crate::net::worker::Worker;
use crate::policy::cors::Cross;
use crate::policy::filters::{Filters, Mirror, Redirection, Target};
use crate::policy::route::{Backend, Route, Selected};
use crate::reject::{Reason, Reject};

/// Where a route leads.
#[derive(Debug)]
pub enum Way {
    /// To an answer right here.
    Answer(Reply),
    /// To a destination.
    To(Routed),
}

/// An answer that a filter gives.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A destination, with what the route says about the way there.
#[derive(Debug)]
pub struct Routed {
    /// Where the request goes.
    pub destination: Arc<Destination>,
    /// The one endpoint that is meant, where the caller named one.
    pub pinned: Option<Pinned>,
    /// For the whole request.
    pub timeout: Option<Duration>,
    /// For one attempt.
    pub attempt_timeout: Option<Duration>,
    /// The route, and the index of its backend, whose filters edit the answer.
    answered_by: Option<(Arc<Route>, usize)>,
    /// What the answer tells the browser of another origin.
    cross: Option<Cross>,
}

impl Routed {
    /// Straight to a destination, without a route.
    pub fn straight(destination: Arc<Destination>, pinned: Option<Pinned>) -> Self {
        let timeout = destination.timeout;
        Self { timeout, destination, pinned, attempt_timeout: None, answered_by: None, cross: None }
    }

    /// Edits an answer as the route and its backend say.
    pub fn edit(&self, answer: &mut Response<Body>) {
        let Some((route, backend)) = &self.answered_by else { return };
        if let Some(backend) = route.backends().get(*backend) {
            backend.filters.edit_response(answer.headers_mut());
        }
        route.filters.edit_response(answer.headers_mut());
        for (name, value) in self.cross.iter().flat_map(|cross| &cross.headers) {
            if name == VARY {
                answer.headers_mut().append(name, value.clone());
            } else {
                answer.headers_mut().insert(name, value.clone());
            }
        }
    }

    /// Destinations that get a copy of the request.
    pub fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        let filters = self.answered_by.iter().flat_map(|(route, backend)| {
            let of_backend = route.backends().get(*backend).map(|backend| &backend.filters);
            std::iter::once(&route.filters).chain(of_backend)
        });
        filters.flat_map(Filters::mirrors)
    }
}

/// Follows a selected route.
pub async fn follow(
    worker: &Rc<Worker>,
    selected: Selected,
    cx: &RequestCx,
    request: &mut Inward,
) -> Result<Way, Reject> {
    let Selected { route, prefix } = selected;
    let query = request.parts.uri.query().map(str::to_owned);
    let target = Target { port: cx.conn.port, query: query.as_deref(), prefix };
    let cors = route.filters.cors();
    let cross = cors.and_then(|cors| cors.cross(&request.parts.method, &request.parts.headers));
    if let Some(Cross { preflight: true, headers }) = cross {
        return Ok(Way::Answer(Reply { status: StatusCode::NO_CONTENT, headers }));
    }
    if let Some(redirection) = route.filters.redirect(cx, &target) {
        return Ok(Way::Answer(redirection.into()));
    }
    let invalid = || Reject::new(Reason::InvalidRoute).by(&*route.name);
    let backend = route.backend(rand::random()).ok_or_else(invalid)?;
    if let Some(redirection) = backend.filters.redirect(cx, &target) {
        return Ok(Way::Answer(redirection.into()));
    }
    let name = backend.destination.as_ref().ok_or_else(invalid)?;
    edit(&route.filters, cx, request, &target);
    edit(&backend.filters, cx, request, &target);
    let destination = destination(worker, &route, name).await?;
    let index = route.backends().iter().position(|b: &Backend| std::ptr::eq(b, backend));
    Ok(Way::To(Routed {
        timeout: route.timeout.or(destination.timeout),
        attempt_timeout: route.backend_timeout,
        pinned: None,
        answered_by: Some((Arc::clone(&route), index.unwrap_or_default())),
        cross,
        destination,
    }))
}

/// The backend's destination for a raw connection.
pub async fn backend(worker: &Rc<Worker>, route: &Route) -> Result<Arc<Destination>, Reject> {
    let name = route.backend(rand::random()).and_then(|backend| backend.destination.as_ref());
    destination(worker, route, name.ok_or_else(|| Reject::new(Reason::InvalidRoute).by(&*route.name))?).await
}

async fn destination(
    worker: &Rc<Worker>,
    route: &Route,
    name: &Arc<str>,
) -> Result<Arc<Destination>, Reject> {
    worker.shared.destination(name).await.map_err(|reject| match reject.reason {
        Reason::UnknownDestination => Reject::new(Reason::InvalidRoute).by(&*route.name).because(&**name),
        _ => reject,
    })
}

fn edit(filters: &Filters, cx: &RequestCx, request: &mut Inward, target: &Target<'_>) {
    filters.edit_request(&mut request.parts.headers);
    if let Some(path) = filters.rewrite_path(cx.path.as_str(), target) {
        request.parts.uri = Uri::from(path);
    }
    if let Some(host) = filters.rewrite_host().and_then(|host| HeaderValue::from_str(host).ok()) {
        request.parts.headers.insert(HOST, host);
    }
}

impl From<Redirection> for Reply {
    fn from(redirection: Redirection) -> Self {
        Self { status: redirection.status, headers: vec![(LOCATION, redirection.location)] }
    }
}

/// The answer that a filter gives.
pub fn reply(reply: Reply, cx: &RequestCx) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = reply.status;
    answer.headers_mut().extend(reply.headers);
    put_request_id(answer.headers_mut(), &cx.id);
    answer
}
