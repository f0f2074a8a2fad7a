//! Certificates for a cluster and for those that ask it, in files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// Who signs, and where what it signs is.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
    ca: PathBuf,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Papers {
    /// The certificate.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one; its own certificate is `name.pem` in `directory`.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let ca = directory.join(format!("{name}.pem"));
        replace(&ca, &issuer.pem())?;
        Ok(Self { issuer, directory: directory.to_owned(), ca })
    }

    /// Its own certificate.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Signs a certificate for a host or a user at `address`, without a common name and valid for long, and leaves it and its
    /// key as `name.pem` and `name.key`, in the place of those that are there.
    pub fn issue(&self, name: &str, address: &str) -> Result<Papers> {
        self.issue_with(name, address, |_| {})
    }

    /// As [`Self::issue`], and no longer valid.
    pub fn issue_expired(&self, name: &str, address: &str) -> Result<Papers> {
        self.issue_with(name, address, |params| params.not_after = date_time_ymd(2001, 1, 1))
    }

    /// As [`Self::issue`], with a common name.
    pub fn issue_named(&self, name: &str, address: &str) -> Result<Papers> {
        self.issue_with(name, address, |params| params.distinguished_name.push(DnType::CommonName, name))
    }

    fn issue_with(
        &self,
        name: &str,
        address: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Papers> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([address.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.not_before = date_time_ymd(2000, 1, 1);
        // A member's JSON gateway shows its certificate to the member.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let signed = params.signed_by(&key, &self.issuer)?;
        let at = |suffix: &str| self.directory.join(format!("{name}.{suffix}"));
        let papers = Papers { cert: at("pem"), key: at("key") };
        replace(&papers.key, &key.serialize_pem())?;
        replace(&papers.cert, &signed.pem())?;
        Ok(papers)
    }
}

/// At once, as who replaces a certificate in use does.
fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(new, path)?)
}
