//! What can be set from outside: one table of flag, environment variable, type, default and doc per setting.
//!
//! [`Common`] is flattened into the settings of every service, [`RedisServer`] into those that use Redis. Nothing
//! else in the services reads the environment. `services/README.md` shows the same table; tests compare them.

use std::{ffi::OsString, fmt, fs, net::SocketAddr, str::FromStr, time::Duration};

use clap::{
    Arg, Args, Command, CommandFactory, Parser, ValueEnum,
    builder::NonEmptyStringValueParser,
    error::{ContextKind, ContextValue, ErrorKind},
    value_parser,
};
use sqlx::postgres::PgConnectOptions;
use tonic::transport::Endpoint;

/// What every service can be told.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Where JSON over HTTP is served.
    #[arg(long, env = "HTTP_ADDR", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub http_addr: SocketAddr,
    /// Where gRPC (HTTP/2 without TLS) is served.
    #[arg(long, env = "GRPC_ADDR", default_value = "0.0.0.0:9090", value_name = "ADDR")]
    pub grpc_addr: SocketAddr,
    /// The service's own database: postgres://user:password@host:port/name.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Secret<PgConnectOptions>,
    /// Most connections open to the database at once.
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 10, value_parser = value_parser!(u32).range(1..=1000), value_name = "N")]
    pub database_connections: u32,
    /// Name of this instance in logs and in the header x-served-by; the host name when not set.
    #[arg(long, env = "INSTANCE", value_parser = NonEmptyStringValueParser::new(), value_name = "NAME")]
    pub instance: Option<String>,
    /// Longest a request may take; a shorter grpc-timeout of the caller wins.
    #[arg(long, env = "REQUEST_TIMEOUT", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub request_timeout: Duration,
    /// How long to go on taking requests when told to stop, while /health says DOWN and others learn of it.
    #[arg(long, env = "DRAIN_DELAY", default_value = "0s", value_parser = duration_or_none, value_name = "DURATION")]
    pub drain_delay: Duration,
    /// Longest to wait for requests in flight and background work after that.
    #[arg(long, env = "SHUTDOWN_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub shutdown_timeout: Duration,
    /// What is logged, as a filter: info, or debug,sqlx=warn.
    #[arg(long, env = "LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How it is logged: one JSON object or one line of text per entry.
    #[arg(long, env = "LOG_FORMAT", default_value = "json", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

impl Common {
    /// The name of this instance.
    pub fn instance(&self) -> String {
        let host = || fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
        self.instance.clone().or_else(host).unwrap_or_else(|| "unknown".into())
    }
}

/// For the services that use Redis.
#[derive(Args, Clone, Debug)]
pub struct RedisServer {
    /// Redis, for caches, locks and event streams: redis://host:port/db.
    #[arg(
        long,
        env = "REDIS_URL",
        default_value = "redis://redis.shop.svc:6379",
        value_name = "URL",
        hide_env_values = true
    )]
    pub redis_url: Secret<redis::ConnectionInfo>,
}

/// How log entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// One line of text, for people.
    Text,
}

/// A value with a password in it: never shown.
#[derive(Clone)]
pub struct Secret<T>(pub T);

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: FromStr> FromStr for Secret<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Secret)
    }
}

/// Reads the settings from flags and environment, and reports all that is wrong with them at once.
pub fn read<S: Parser>(argv: impl IntoIterator<Item = OsString>) -> Result<S, clap::Error> {
    let argv: Vec<OsString> = argv.into_iter().collect();
    S::try_parse_from(&argv).map_err(|first| {
        let all = problems(&S::command(), &argv);
        if all.is_empty() {
            first
        } else {
            S::command().error(ErrorKind::ValueValidation, all.join("\nerror: "))
        }
    })
}

/// One line per setting that cannot be used. Empty when the command line itself is not understood.
fn problems(command: &Command, argv: &[OsString]) -> Vec<String> {
    let settings = command.get_arguments().filter(|arg| arg.get_env().is_some());
    settings.filter_map(|arg| problem(command, arg, argv)).collect()
}

/// What is wrong with one setting, whatever is wrong with the others.
fn problem(command: &Command, arg: &Arg, argv: &[OsString]) -> Option<String> {
    let lenient = command.clone().mut_args(|other| {
        if other.get_id() == arg.get_id() {
            other
        } else {
            other.value_parser(value_parser!(String)).required(false)
        }
    });
    let error = lenient.try_get_matches_from(argv).err()?;
    let flag = format!("--{}", arg.get_long()?);
    let text = match (error.kind(), error.get(ContextKind::InvalidArg)?) {
        (ErrorKind::MissingRequiredArgument, ContextValue::Strings(missing)) => missing
            .iter()
            .any(|name| name.split(' ').next() == Some(&flag))
            .then(|| "is required".to_owned())?,
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    Some(format!("{}: {text}", arg.get_env()?.display()))
}

/// The settings as rows of the table in `services/README.md`.
pub fn table<S: CommandFactory>() -> Vec<String> {
    let row = |arg: &Arg| {
        let default = match arg.get_default_values() {
            [] => String::new(),
            values => {
                format!("`{}`", values.iter().map(|v| v.to_string_lossy()).collect::<Vec<_>>().join(","))
            }
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some(format!("| `{}` | `--{}` | {default} | {help} |", arg.get_env()?.display(), arg.get_long()?))
    };
    S::command().get_arguments().filter_map(row).collect()
}

/// Reads `250ms`, `10s`, `15m` or `24h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text.strip_suffix(unit).and_then(|n| n.parse::<u64>().ok());
    let seconds = |factor: u64| number.and_then(|n| n.checked_mul(factor)).map(Duration::from_secs);
    let value = match unit {
        "ms" => number.map(Duration::from_millis),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        _ => None,
    };
    value
        .filter(|d| !d.is_zero())
        .ok_or_else(|| "expected a time above 0 such as 250ms, 10s, 15m or 24h".into())
}

/// Reads the same, or `0s`.
pub fn duration_or_none(text: &str) -> Result<Duration, String> {
    if text == "0s" { Ok(Duration::ZERO) } else { duration(text) }
}

/// Reads the base URL of a neighbour.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    let endpoint =
        Endpoint::from_shared(text.to_owned()).map_err(|_| "expected http://host:port".to_owned())?;
    match (endpoint.uri().scheme_str(), endpoint.uri().authority()) {
        (Some("http"), Some(_)) => Ok(endpoint),
        _ => Err("expected http://host:port".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser, Debug)]
    struct All {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        redis: RedisServer,
    }

    fn read_from(args: &[&str]) -> Result<All, clap::Error> {
        read(std::iter::once("service").chain(args.iter().copied()).map(OsString::from))
    }

    #[test]
    fn all_bad_settings_are_reported_at_once() {
        let text = read_from(&["--http-addr=nowhere", "--request-timeout=0s"]).unwrap_err().to_string();
        for part in ["HTTP_ADDR: ", "REQUEST_TIMEOUT: ", "DATABASE_URL: is required"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("GRPC_ADDR"), "{text}");
    }

    #[test]
    fn passwords_are_never_shown() {
        let url = "--database-url=postgres://shop:hunter2@db/users";
        let settings = read_from(&[url, "--redis-url=redis://:hunter2@cache"]).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert_eq!(settings.common.request_timeout, Duration::from_secs(10));
        assert!(settings.redis.redis_url.0.addr().to_string().contains("cache"));
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, expect) in
            [("250ms", Some(250)), ("2s", Some(2000)), ("15m", Some(900_000)), ("1h", Some(3_600_000))]
                .into_iter()
                .chain(
                    ["", "10", "s", "0s", "-1s", "1d", "99999999999999999999s", "9999999999999999999h"]
                        .map(|t| (t, None)),
                )
        {
            assert_eq!(duration(text).ok(), expect.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_neighbour_needs_scheme_and_host() {
        assert!(endpoint("http://user.shop.svc:9090").is_ok());
        for text in ["user:9090", "https://user", "/path", ""] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_readme_shows_the_same_table() {
        crate::testing::readme_shows::<All>();
    }
}
