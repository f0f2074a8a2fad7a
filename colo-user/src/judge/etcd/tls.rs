//! What TLS to etcd goes by: certificates and a key in files, which may be replaced at any time.
//!
//! Before each request the files are looked at (device, inode, size, time of change: also behind a link that now points
//! elsewhere). What has changed is read, and from then on all connections are new ones. While the new files do not fit,
//! a certificate that came before its key among them, what was read before is used, and they are read again at the next request.
//! The system's roots are read with them, and not looked at.

use super::spec::Files;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use tracing::{info, warn};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// See the module.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    provider: Arc<CryptoProvider>,
    /// As they were when what is used was read.
    stamps: Vec<Option<Stamp>>,
    /// Why the files that are there now are not used.
    refused: Option<String>,
}

/// A file as it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be used; its name, why, and what to do.
    pub fn read(files: Files) -> Result<(Self, TlsConfig), String> {
        let provider = Arc::new(ring::default_provider());
        // Looked at before they are read: what changes meanwhile is seen the next time.
        let stamps = stamps(&files);
        let config = config(&files, &provider)?;
        Ok((Self { files, provider, stamps, refused: None }, config))
    }

    /// What to use from now on, if the files have changed and can be used.
    pub fn changed(&mut self) -> Option<TlsConfig> {
        let stamps = stamps(&self.files);
        if stamps == self.stamps {
            return None;
        }
        match config(&self.files, &self.provider) {
            Ok(config) => {
                info!("etcd: the certificates have changed and are used from now on");
                (self.stamps, self.refused) = (stamps, None);
                Some(config)
            }
            Err(why) => {
                if self.refused.as_ref() != Some(&why) {
                    warn!("etcd: what was read before is used: {why}");
                    self.refused = Some(why);
                }
                None
            }
        }
    }

    /// The files.
    #[must_use]
    pub const fn files(&self) -> &Files {
        &self.files
    }
}

fn stamps(files: &Files) -> Vec<Option<Stamp>> {
    let identity = files.identity.iter().flat_map(|(cert, key)| [cert, key]);
    let stamp = |path| {
        let found = fs::metadata(path).ok()?;
        let changed = (found.ctime(), found.ctime_nsec());
        Some(Stamp { file: (found.dev(), found.ino()), size: found.size(), changed })
    };
    files.ca.iter().chain(identity).map(stamp).collect()
}

/// Reads all and checks that it fits: what is used does not fail for what is in the files.
fn config(files: &Files, provider: &Arc<CryptoProvider>) -> Result<TlsConfig, String> {
    let roots = match &files.ca {
        Some(path) => authorities(path)?,
        None => system()?,
    };
    let identity = files.identity.as_ref().map(|(cert, key)| identity(cert, key, provider)).transpose()?;
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .client_cert(identity)
        .unversioned_rustls_crypto_provider(Arc::clone(provider))
        .build())
}

fn authorities(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let mut store = RootCertStore::empty();
    let certificates = certificates(path, &contents(path)?)?;
    for (n, certificate) in certificates.iter().enumerate() {
        let added = store.add(certificate.clone());
        added.map_err(|error| {
            format!("{}: certificate {} is no authority's: {error}", path.display(), n + 1)
        })?;
    }
    Ok(certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect())
}

/// The roots that this host trusts. Those that rustls cannot use are left out.
fn system() -> Result<Vec<Certificate<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(format!("the system's roots: {why}; name etcd's authority with ;ca=FILE"));
    }
    Ok(found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect())
}

fn identity(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<ClientCert, String> {
    let chain = certificates(cert, &contents(cert)?)?;
    let pem = contents(key)?;
    let wrong = |why: &dyn std::fmt::Display| {
        format!("{}: no private key can be read ({why}); it takes one in PEM, not encrypted", key.display())
    };
    let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(&error))?;
    let private = PrivateKey::from_pem(&pem).map_err(|error| wrong(&error))?;
    let certified = CertifiedKey::from_der(chain, der, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "the key in {} is not that of the certificate in {}; give the two that were made together",
            key.display(),
            cert.display()
        ),
        rustls::Error::InvalidCertificate(_) => format!("{}: {error}", cert.display()),
        error => wrong(&error),
    })?;
    let chain: Vec<_> = certified.cert.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(ClientCert::new_with_certs(&chain, private))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("{}: there is no certificate in it; it takes PEM", path.display()))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{}: {error}; it takes certificates in PEM", path.display())),
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, String> {
    let size = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.len();
    if size > MAX_FILE {
        return Err(format!(
            "{}: {size} bytes are no certificates, of which {MAX_FILE} are read",
            path.display()
        ));
    }
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
