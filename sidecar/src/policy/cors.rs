//! Cross-origin requests of browsers (the Fetch standard, section 3.2): a preflight is answered here, and answers to the
//! requests themselves say which origins may read them. Follows the Gateway API's CORS filter. An origin that is not
//! allowed gets no such header, and its browser keeps the answer from the page.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method};
use weft_api::v1;

use super::ConfigError;
use super::pattern::header_name;

/// What other origins may do.
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Box<[Origin]>,
    credentials: bool,
    methods: Listed,
    headers: Listed,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Any,
    Exact(Box<str>),
    /// What stands before and after the `*`.
    Around(Box<str>, Box<str>),
}

/// A list in one header value, or everything.
#[derive(Clone, Debug)]
enum Listed {
    Any,
    These(Option<HeaderValue>),
}

/// What follows from a request of another origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cross {
    /// The browser only asks whether it may; nobody else is to see that.
    pub preflight: bool,
    /// For the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Cors {
    /// Compiles the wire form.
    pub fn new(config: &v1::Cors) -> Result<Self, ConfigError> {
        let origins = config.allow_origins.iter().map(|origin| Origin::new(origin));
        for name in config.allow_headers.iter().chain(&config.expose_headers).filter(|name| *name != "*") {
            header_name("filters[].cors", name)?;
        }
        for method in config.allow_methods.iter().filter(|method| *method != "*") {
            Method::from_bytes(method.as_bytes()).map_err(|_| {
                ConfigError::invalid("filters[].cors.allowMethods", &**method, "write HTTP methods, like GET")
            })?;
        }
        Ok(Self {
            origins: origins.collect(),
            credentials: config.allow_credentials,
            methods: Listed::new(&config.allow_methods)?,
            headers: Listed::new(&config.allow_headers)?,
            expose: joined(&config.expose_headers)?,
            max_age: HeaderValue::from(config.max_age),
        })
    }

    /// What follows from a request; nothing where it is of no other origin.
    pub fn cross(&self, method: &Method, headers: &HeaderMap) -> Option<Cross> {
        let origin = headers.get(ORIGIN)?;
        let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| method == Method::OPTIONS);
        let open = self.origins.contains(&Origin::Any) && !self.credentials;
        let mut answer = Vec::new();
        if !open {
            // What one origin is told is not for another one's cache (Fetch, section 3.2.5).
            answer.push((VARY, HeaderValue::from_static("origin")));
        }
        if self.allows(origin) {
            let told = if open { HeaderValue::from_static("*") } else { origin.clone() };
            answer.push((ACCESS_CONTROL_ALLOW_ORIGIN, told));
            if self.credentials {
                answer.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
            }
            match asked {
                Some(asked) => self.permit(asked, headers, &mut answer),
                None => {
                    answer.extend(self.expose.clone().map(|names| (ACCESS_CONTROL_EXPOSE_HEADERS, names)));
                }
            }
        }
        Some(Cross { preflight: asked.is_some(), headers: answer })
    }

    fn permit(&self, method: &HeaderValue, headers: &HeaderMap, answer: &mut Vec<(HeaderName, HeaderValue)>) {
        let methods = self.methods.told(Some(method), self.credentials);
        answer.extend(methods.map(|methods| (ACCESS_CONTROL_ALLOW_METHODS, methods)));
        let names = self.headers.told(headers.get(ACCESS_CONTROL_REQUEST_HEADERS), self.credentials);
        answer.extend(names.map(|names| (ACCESS_CONTROL_ALLOW_HEADERS, names)));
        answer.push((ACCESS_CONTROL_MAX_AGE, self.max_age.clone()));
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        self.origins.iter().any(|allowed| allowed.is(origin))
    }
}

impl Origin {
    fn new(text: &str) -> Self {
        match text.split_once('*') {
            _ if text == "*" => Self::Any,
            Some((before, after)) => Self::Around(before.into(), after.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// Scheme and host are the same in upper and lower case; browsers write them in lower case. A `*` stands for a part of
    /// the host: it holds at least something, and neither a port nor a path.
    fn is(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.eq_ignore_ascii_case(origin),
            Self::Around(before, after) => {
                let origin = origin.to_ascii_lowercase();
                let (before, after) = (before.to_ascii_lowercase(), after.to_ascii_lowercase());
                let middle = origin.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&after));
                middle.is_some_and(|middle| !middle.is_empty() && !middle.contains(['/', ':', '@']))
            }
        }
    }
}

impl Listed {
    fn new(list: &[String]) -> Result<Self, ConfigError> {
        if list.iter().any(|one| one == "*") { Ok(Self::Any) } else { joined(list).map(Self::These) }
    }

    /// With credentials `*` would stand for itself (Fetch, section 3.2.3), so what was asked for is told.
    fn told(&self, asked: Option<&HeaderValue>, credentials: bool) -> Option<HeaderValue> {
        match self {
            Self::Any if credentials => asked.cloned(),
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::These(these) => these.clone(),
        }
    }
}

fn joined(list: &[String]) -> Result<Option<HeaderValue>, ConfigError> {
    if list.is_empty() {
        return Ok(None);
    }
    let text = list.join(", ");
    let remedy = "write names without control characters";
    let invalid = |_| ConfigError::invalid("filters[].cors", text.as_str(), remedy);
    HeaderValue::from_str(&text).map(Some).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn config(origins: &[&str]) -> v1::Cors {
        v1::Cors {
            allow_origins: list(origins),
            allow_methods: list(&["GET", "PUT"]),
            allow_headers: list(&["x-token"]),
            expose_headers: list(&["x-page", "x-total"]),
            max_age: 60,
            allow_credentials: false,
        }
    }

    fn said(cross: &Cross, name: &HeaderName) -> String {
        let values = cross.headers.iter().filter(|(known, _)| known == name);
        values.map(|(_, value)| value.to_str().unwrap()).collect::<Vec<_>>().join(";")
    }

    fn cross(config: &v1::Cors, method: &Method, headers: &[(&str, &str)]) -> Option<Cross> {
        Cors::new(config).unwrap().cross(method, &fixture::headers(headers))
    }

    fn allowed(origins: &[&str], origin: &str) -> bool {
        let cross = cross(&config(origins), &Method::GET, &[("origin", origin)]).unwrap();
        !said(&cross, &ACCESS_CONTROL_ALLOW_ORIGIN).is_empty()
    }

    #[test]
    fn an_origin_is_allowed_as_written_or_by_a_part_of_its_host() {
        assert!(allowed(&["https://a.example"], "https://a.example"));
        assert!(!allowed(&["https://a.example"], "http://a.example"));
        assert!(!allowed(&["https://a.example"], "https://a.example:8443"));
        let below = &["https://*.example"];
        assert!(allowed(below, "https://a.example") && allowed(below, "https://a.b.example"));
        for origin in ["https://.example", "https://evil.test/.example", "https://a.example.evil", "null"] {
            assert!(!allowed(below, origin), "{origin}");
        }
        assert!(!allowed(below, "https://evil:1.example"));
        assert!(allowed(&["*"], "null"));
        assert!(!allowed(&[], "https://a.example"));
    }

    #[test]
    fn a_preflight_is_told_what_may_be_sent() {
        let asks = [
            ("origin", "https://a.example"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-token, x-other"),
        ];
        let config = config(&["https://a.example"]);
        let answer = cross(&config, &Method::OPTIONS, &asks).unwrap();
        assert!(answer.preflight);
        assert_eq!(said(&answer, &ACCESS_CONTROL_ALLOW_ORIGIN), "https://a.example");
        assert_eq!(said(&answer, &ACCESS_CONTROL_ALLOW_METHODS), "GET, PUT");
        assert_eq!(said(&answer, &ACCESS_CONTROL_ALLOW_HEADERS), "x-token");
        assert_eq!(
            (said(&answer, &ACCESS_CONTROL_MAX_AGE), said(&answer, &VARY)),
            ("60".into(), "origin".into())
        );

        let every = v1::Cors { allow_headers: list(&["*"]), allow_credentials: true, ..config };
        let answer = cross(&every, &Method::OPTIONS, &asks).unwrap();
        assert_eq!(said(&answer, &ACCESS_CONTROL_ALLOW_HEADERS), "x-token, x-other");
        assert_eq!(said(&answer, &ACCESS_CONTROL_ALLOW_CREDENTIALS), "true");
        let other = [("origin", "https://b.example"), ("access-control-request-method", "PUT")];
        let answer = cross(&every, &Method::OPTIONS, &other).unwrap();
        assert!(answer.preflight && answer.headers.len() == 1, "{answer:?}");
    }

    #[test]
    fn a_request_passes_and_its_answer_is_told_who_may_read_it() {
        let answer = cross(&config(&["*"]), &Method::GET, &[("origin", "https://a.example")]).unwrap();
        assert!(!answer.preflight);
        assert_eq!(said(&answer, &ACCESS_CONTROL_ALLOW_ORIGIN), "*");
        assert_eq!(said(&answer, &ACCESS_CONTROL_EXPOSE_HEADERS), "x-page, x-total");
        let options = cross(&config(&["*"]), &Method::OPTIONS, &[("origin", "https://a.example")]).unwrap();
        assert!(!options.preflight, "an OPTIONS that asks for no method is a request like others");
        assert_eq!(cross(&config(&["*"]), &Method::GET, &[]), None);
    }

    proptest::proptest! {
        #[test]
        fn a_part_of_a_host_is_never_more_than_that(origin in "https://[a-z.:/@]{0,12}(\\.example)?") {
            let allowed = Origin::new("https://*.example").is(&origin);
            let host = origin.trim_start_matches("https://");
            let fits = host.len() > ".example".len() && host.ends_with(".example");
            proptest::prop_assert_eq!(allowed, fits && !host.contains(['/', ':', '@']), "{}", origin);
        }
    }

    #[test]
    fn what_is_no_header_or_method_is_refused() {
        for broken in [
            v1::Cors { allow_headers: list(&["a b"]), ..config(&["*"]) },
            v1::Cors { allow_methods: list(&["GE T"]), ..config(&["*"]) },
            v1::Cors { expose_headers: list(&["a\nb"]), ..config(&["*"]) },
        ] {
            assert!(Cors::new(&broken).is_err());
        }
    }
}
