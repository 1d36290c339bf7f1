//! The certificates and keys of one control plane, made anew for each.
//!
//! authority -> serving certificate, administrator's client certificate; a key pair for ServiceAccount tokens.

use std::fs;
use std::path::{Path, PathBuf};

use crate::node;
use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// Paths of the written files.
#[derive(Debug)]
pub struct Certificates {
    /// The authority that both servers and clients trust.
    pub authority: PathBuf,
    /// What the API server shows.
    pub serving: Pair,
    /// A member of `system:masters`.
    pub admin: Pair,
    /// Verifies ServiceAccount tokens.
    pub token_public: PathBuf,
    /// Signs ServiceAccount tokens.
    pub token_private: PathBuf,
}

/// A certificate and its private key.
#[derive(Debug)]
pub struct Pair {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them all in `folder`.
    pub fn make(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {folder:?}"))?;
        let authority = Authority::make()?;
        let tokens = KeyPair::generate().context("make the key of ServiceAccount tokens")?;
        Ok(Self {
            authority: write(folder, "ca.crt", &authority.certificate)?,
            serving: authority.serving()?.write(folder, "apiserver")?,
            admin: authority.client("admin", "system:masters")?.write(folder, "admin")?,
            token_public: write(folder, "sa.pub", &tokens.public_key_pem())?,
            token_private: write(folder, "sa.key", &tokens.serialize_pem())?,
        })
    }
}

/// A CA of its own.
#[derive(Debug)]
pub struct Authority {
    /// Its certificate, in PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    /// Makes one.
    pub fn make() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "sealwright-tests");
        let key = KeyPair::generate().context("make the authority's key")?;
        let certificate = params.self_signed(&key).context("sign the authority's certificate")?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    fn serving(&self) -> Result<Issued> {
        let names = ["127.0.0.1", "10.0.0.1", node::ADDRESS, "localhost", "kubernetes", "kubernetes.default.svc"];
        let mut params = CertificateParams::new(names.map(String::from)).context("name the API server")?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// Writes a certificate of a server on loopback with these names beside 127.0.0.1, one that has expired if so
    /// wanted, and its key.
    pub fn server(&self, folder: &Path, name: &str, names: &[&str], is_expired: bool) -> Result<Pair> {
        let names = names.iter().chain(&["127.0.0.1"]).map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).context("name a server")?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if is_expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        fs::create_dir_all(folder).with_context(|| format!("make {folder:?}"))?;
        self.issue(params)?.write(folder, name)
    }

    fn client(&self, user: &str, group: &str) -> Result<Issued> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Issued> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("make a key")?;
        let certificate = params.signed_by(&key, &self.issuer).context("sign a certificate")?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Issued {
    fn write(&self, folder: &Path, name: &str) -> Result<Pair> {
        Ok(Pair {
            certificate: write(folder, &format!("{name}.crt"), &self.certificate)?,
            key: write(folder, &format!("{name}.key"), &self.key)?,
        })
    }
}

fn write(folder: &Path, name: &str, pem: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, pem).with_context(|| format!("write {path:?}"))?;
    Ok(path)
}
