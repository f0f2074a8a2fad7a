use super::*;
use rustls::AlertDescription;
use std::io;

const LIMIT: Duration = Duration::from_secs(2);

fn tls(error: rustls::Error, files: &Files) -> String {
    of_connection(&Error::Io(io::Error::new(ErrorKind::InvalidData, error)), Some(files), LIMIT)
}

#[test]
fn what_tls_does_not_like_comes_with_the_way_out() {
    let own = Files { ca: Some("/ca.pem".into()), identity: Some(("/c.pem".into(), "/k.pem".into())) };
    let bare = Files::default();
    for (error, files, way) in [
        (Refused::UnknownIssuer.into(), &own, "/ca.pem did not sign it; name etcd's authority with ;ca=FILE"),
        (Refused::UnknownIssuer.into(), &bare, "the system's roots did not sign it"),
        (Refused::NotValidForName.into(), &own, "name the endpoint as its certificate does"),
        (Refused::Expired.into(), &own, "set this host's clock"),
        (
            rustls::Error::AlertReceived(AlertDescription::BadCertificate),
            &own,
            "/c.pem: that is to be signed by",
        ),
        (rustls::Error::AlertReceived(AlertDescription::BadCertificate), &bare, "give ;cert=FILE;key=FILE"),
        (rustls::InvalidMessage::InvalidContentType.into(), &bare, "write http://"),
    ] {
        let said = tls(error, files);
        assert!(said.contains(way), "{said}");
    }
}

#[test]
fn a_connection_that_ends_is_told_by_what_was_spoken() {
    let reset = || Error::Io(ErrorKind::ConnectionReset.into());
    assert!(of_connection(&reset(), None, LIMIT).contains("write https://"));
    assert!(of_connection(&reset(), Some(&Files::default()), LIMIT).contains("give ;cert=FILE;key=FILE"));
    let refused = of_connection(&Error::Io(ErrorKind::ConnectionRefused.into()), None, LIMIT);
    assert!(!refused.contains("https"), "nobody listens: {refused}");
}

#[test]
fn what_etcd_says_of_users_and_certificates_comes_with_the_way_out() {
    let login = Login { user: "colo".into(), password: "/p".into() };
    for (said, login, way) in [
        ("etcdserver: user name is empty", None, "give ;user="),
        (
            r#"503: {"error":"connection closed","code":14}"#,
            None,
            "the member's certificate needs clientAuth",
        ),
        ("CommonName of client sending a request against gateway", None, "but one without a CommonName"),
        ("etcdserver: authentication is not enabled", Some(&login), "leave ;user= out"),
        ("etcdserver: authentication failed, invalid user ID or password", Some(&login), "no user colo with"),
        ("etcdserver: permission denied", Some(&login), "grant a role of colo readwrite"),
    ] {
        assert!(of_answer(said, login).contains(way), "{said}");
    }
    assert_eq!(of_answer("etcdserver: no leader", Some(&login)), "etcdserver: no leader");
}
