//! The judge etcd as the command line names it: `etcd:URL[,URL…][;option…]`. All URLs are `http://HOST:PORT`, or all are
//! `https://HOST:PORT`.
//!
//! | option | |
//! |---|---|
//! | `ttl=SECONDS` | the lease: 2 to 600, 5 by default; etcd gives no less than one and a half of its election timeouts |
//! | `drift=PERCENT` | how much faster than this host's clock etcd's may run: 0 to 50, 1 by default |
//! | `prefix=PATH` | what the keys begin with, `/colo/` by default; behind it the pair's name |
//! | `ca=FILE` | who may have signed etcd's certificates; the system's roots by default |
//! | `cert=FILE`, `key=FILE` | this host's certificate, with what is between it and its authority, and its key; none by default |
//! | `user=NAME`, `password-file=FILE` | who etcd is told that this host is; nobody by default |

use super::keeper::Terms;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const SYNTAX: &str = "write etcd:http://HOST:PORT[,http://HOST:PORT...] or with https://, and behind it \
     [;ttl=SECONDS][;drift=PERCENT][;prefix=PATH][;ca=FILE][;cert=FILE;key=FILE][;user=NAME;password-file=FILE]";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdSpec {
    /// How it is reached.
    pub access: Access,
    /// The lease.
    pub terms: Terms,
    /// What the keys begin with.
    pub prefix: String,
}

/// How a cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// URLs without a path.
    pub endpoints: Vec<String>,
    /// What TLS goes by; set where the URLs are `https://`.
    pub tls: Option<Files>,
    /// Who etcd is told that this host is.
    pub login: Option<Login>,
}

/// What TLS goes by: files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Who may have signed etcd's certificate; `None`: the system's roots.
    pub ca: Option<PathBuf>,
    /// This host's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A user of etcd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Its name.
    pub user: String,
    /// Where its password is; a line's end behind it is no part of it.
    pub password: PathBuf,
}

impl FromStr for EtcdSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read(text).map_err(|what| format!("{what}; {SYNTAX}"))
    }
}

fn read(text: &str) -> Result<EtcdSpec, String> {
    let mut parts = text.split(';');
    let endpoints: Vec<String> =
        parts.next().unwrap_or_default().split(',').map(endpoint).collect::<Result<_, _>>()?;
    let mut terms = Terms { ttl: Duration::from_secs(5), drift: 1 };
    let mut prefix = "/colo/".to_owned();
    let [mut ca, mut cert, mut key, mut user, mut password] = [const { None::<String> }; 5];
    for option in parts {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let number = |legal: std::ops::RangeInclusive<u32>| {
            let found = value.parse().ok().filter(|n| legal.contains(n));
            found.ok_or_else(|| format!("{name} is {} to {}, not {value:?}", legal.start(), legal.end()))
        };
        let said = match name {
            "ttl" => {
                terms.ttl = Duration::from_secs(number(2..=600)?.into());
                continue;
            }
            "drift" => {
                terms.drift = number(0..=50)?;
                continue;
            }
            "prefix" if value.ends_with('/') => {
                value.clone_into(&mut prefix);
                continue;
            }
            "prefix" => return Err(format!("the prefix {value:?} does not end with /")),
            "ca" => &mut ca,
            "cert" => &mut cert,
            "key" => &mut key,
            "user" => &mut user,
            "password-file" => &mut password,
            _ => return Err(format!("there is no option {option:?}")),
        };
        if value.is_empty() {
            return Err(format!("{name}= says nothing"));
        }
        *said = Some(value.to_owned());
    }
    let identity = both(("cert", cert), ("key", key))?;
    let files =
        Files { ca: ca.map(PathBuf::from), identity: identity.map(|(cert, key)| (cert.into(), key.into())) };
    let secure = endpoints.iter().filter(|url| url.starts_with("https:")).count();
    let tls = match secure {
        0 if files != Files::default() => {
            return Err("ca=, cert= and key= are for TLS, and the endpoints are http://".to_owned());
        }
        0 => None,
        all if all == endpoints.len() => Some(files),
        _ => return Err("some endpoints are https:// and some are not".to_owned()),
    };
    let login = both(("user", user), ("password-file", password))?;
    let login = login.map(|(user, password)| Login { user, password: password.into() });
    Ok(EtcdSpec { access: Access { endpoints, tls, login }, terms, prefix })
}

type Named<'a> = (&'a str, Option<String>);

/// Options of which one means nothing without the other.
fn both((a, one): Named<'_>, (b, other): Named<'_>) -> Result<Option<(String, String)>, String> {
    if one.is_some() != other.is_some() {
        return Err(format!("{a}= and {b}= go together"));
    }
    Ok(one.zip(other))
}

fn endpoint(url: &str) -> Result<String, String> {
    let url = url.strip_suffix('/').unwrap_or(url);
    let (scheme, authority) = url.split_once("://").unwrap_or(("http", url));
    if !["http", "https"].contains(&scheme) {
        return Err(format!("{url:?} is no http:// or https:// URL"));
    }
    let port = authority.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(port) if port != 0 && !authority.contains(['/', '@', ' ']) => {
            Ok(format!("{scheme}://{authority}"))
        }
        _ => Err(format!("{url:?} is not {scheme}://HOST:PORT")),
    }
}

#[cfg(test)]
mod tests;
