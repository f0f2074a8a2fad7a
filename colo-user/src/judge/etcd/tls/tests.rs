use super::*;
use rcgen::{CertificateParams, KeyPair};
use std::path::PathBuf;
use tempfile::TempDir;

/// A certificate and a key, `name.pem` and `name.key`.
fn write(directory: &TempDir, name: &str) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let at = |suffix: &str| directory.path().join(format!("{name}.{suffix}"));
    fs::write(at("pem"), certificate.pem()).unwrap();
    fs::write(at("key"), key.serialize_pem()).unwrap();
    (at("pem"), at("key"))
}

fn refused(files: Files) -> String {
    Tls::read(files).expect_err("files that cannot be used")
}

#[test]
fn what_cannot_be_used_is_named_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = write(&directory, "a");
    let (_, other) = write(&directory, "b");
    let garbage = directory.path().join("garbage");
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let none = directory.path().join("none");
    let with = |cert: &PathBuf, key: &PathBuf| Files {
        ca: Some(directory.path().join("a.pem")),
        identity: Some((cert.clone(), key.clone())),
    };
    for (files, object, why) in [
        (Files { ca: Some(none.clone()), identity: None }, "none", "No such file"),
        (Files { ca: Some(key.clone()), identity: None }, "a.key", "no certificate in it; it takes PEM"),
        (Files { ca: Some(garbage.clone()), identity: None }, "garbage", "certificate 1 is no authority's"),
        (with(&cert, &none), "none", "No such file"),
        (with(&cert, &cert), "a.pem", "no private key can be read"),
        (with(&garbage, &key), "garbage", "invalid peer certificate"),
        (with(&cert, &other), "b.key", "is not that of the certificate in"),
    ] {
        let refused = refused(files);
        assert!(refused.contains(object) && refused.contains(why), "{object}: {refused}");
    }
    Tls::read(with(&cert, &key)).unwrap();
}

#[test]
fn files_that_change_are_read_again_once_they_fit() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = write(&directory, "a");
    let (next, its) = write(&directory, "b");
    let files = Files { ca: None, identity: Some((cert.clone(), key.clone())) };
    let files = Files { ca: Some(cert.clone()), ..files };
    let (mut tls, first) = Tls::read(files).unwrap();
    let shown = |config: &TlsConfig| config.client_cert().unwrap().certs()[0].der().to_vec();
    assert!(tls.changed().is_none(), "nothing has changed");

    fs::rename(next, &cert).unwrap();
    assert!(tls.changed().is_none(), "a certificate whose key has not come yet");
    assert!(tls.refused.as_ref().unwrap().contains("is not that of the certificate"));
    fs::rename(its, &key).unwrap();
    let second = tls.changed().expect("both are there");
    assert_ne!(shown(&first), shown(&second));
    assert!(tls.changed().is_none() && tls.refused.is_none(), "once");

    fs::remove_file(&key).unwrap();
    assert!(tls.changed().is_none(), "a key that is gone");
    assert!(tls.refused.is_some());
}
