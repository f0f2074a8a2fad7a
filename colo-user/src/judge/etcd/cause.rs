//! Why etcd did not answer, and what to do about it.

use super::spec::{Files, Login};
use rustls::CertificateError as Refused;
use std::io::ErrorKind;
use std::time::Duration;
use ureq::Error;

/// What is behind an error of the connection. `tls`: what TLS goes by, if it is spoken.
#[must_use]
pub fn of_connection(error: &Error, tls: Option<&Files>, limit: Duration) -> String {
    let behind = match error {
        Error::Rustls(error) => Some(error),
        Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
        _ => None,
    };
    match (error, behind, tls) {
        (Error::Timeout(_), ..) => format!("no answer within {limit:?}"),
        (_, Some(error), Some(files)) => of_tls(error, files),
        (Error::Io(error), _, Some(files)) if closed(error.kind()) => {
            format!("{error}: closed by the other side; {}", ours(files))
        }
        (Error::Io(error), _, None) if closed(error.kind()) => {
            format!("{error}: closed by the other side; if it speaks TLS, write https://")
        }
        (Error::Protocol(_), _, None) => format!("{error}; if it speaks TLS, write https://"),
        _ => error.to_string(),
    }
}

/// Whether the other side ended the connection that it had taken.
fn closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
    )
}

fn of_tls(error: &rustls::Error, files: &Files) -> String {
    let way = match error {
        rustls::Error::InvalidCertificate(refused) => match refused {
            Refused::UnknownIssuer | Refused::BadSignature => {
                let by = files.ca.as_ref().map(|path| path.display().to_string());
                let by = by.unwrap_or_else(|| "the system's roots".to_owned());
                format!("{by} did not sign it; name etcd's authority with ;ca=FILE")
            }
            Refused::NotValidForName | Refused::NotValidForNameContext { .. } => {
                "name the endpoint as its certificate does".to_owned()
            }
            Refused::Expired
            | Refused::ExpiredContext { .. }
            | Refused::NotValidYet
            | Refused::NotValidYetContext { .. } => "give etcd another, or set this host's clock".to_owned(),
            _ => "give etcd another".to_owned(),
        },
        rustls::Error::AlertReceived(_) => ours(files),
        rustls::Error::InvalidMessage(_) => "if it does not speak TLS, write http://".to_owned(),
        _ => return error.to_string(),
    };
    format!("{error}; {way}")
}

/// What etcd may not like about this host.
fn ours(files: &Files) -> String {
    match &files.identity {
        None => "if it asks for a certificate (--client-cert-auth), give ;cert=FILE;key=FILE".to_owned(),
        Some((cert, _)) => format!(
            "if it does not like {}: that is to be signed by its --trusted-ca-file, valid now, and for client authentication",
            cert.display()
        ),
    }
}

/// What to do about an answer that is an error.
#[must_use]
pub fn of_answer(said: &str, login: Option<&Login>) -> String {
    let way = match login {
        // etcd with both users and --client-cert-auth, to whom its JSON gateway cannot tell the certificate's user.
        _ if said.contains("CommonName of client") => {
            "with users, etcd's JSON gateway takes no certificate but one without a CommonName".to_owned()
        }
        _ if said.contains("connection closed") => {
            "its JSON gateway does not reach etcd: under --client-cert-auth the member's certificate needs clientAuth".to_owned()
        }
        None if said.contains("user name is empty") => "give ;user=NAME;password-file=FILE".to_owned(),
        Some(Login { user, password }) if said.contains("invalid user ID or password") => {
            format!("etcd knows no user {user} with the password in {}", password.display())
        }
        Some(_) if said.contains("authentication is not enabled") => "leave ;user= out".to_owned(),
        Some(Login { user, .. }) if said.contains("permission denied") => {
            format!("grant a role of {user} readwrite below the prefix")
        }
        _ => return said.to_owned(),
    };
    format!("{said}; {way}")
}

#[cfg(test)]
mod tests;
