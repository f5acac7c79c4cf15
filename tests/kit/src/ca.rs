//! A certificate authority.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use tempfile::TempDir;

use crate::etcd::TlsFiles;
use crate::pem::{cert_pem, key_pem};

/// A CA, and the files of what it has signed.
#[derive(Debug)]
pub struct Ca {
    /// Its certificate as PEM, which is in the file `ca.pem` as well.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Ca {
    /// A CA with a new key.
    pub fn generate() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = cert_pem(&params.self_signed(&key).unwrap());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        let issuer = Issuer::new(params, key);
        Self {
            pem,
            issuer,
            folder,
        }
    }

    /// The path of the file with this name in its folder.
    pub fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().unwrap().into()
    }

    /// A certificate for 127.0.0.1 and its key, both as PEM, for a server or a client. It has no Common
    /// Name, which etcd would take for a user.
    pub fn sign(&self) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        [cert_pem(&cert), key_pem(&key)]
    }

    /// The same as files: `NAME.crt` and `NAME.key`.
    pub fn sign_files(&self, name: &str) -> [String; 2] {
        let files = ["crt", "key"].map(|ending| self.path(&format!("{name}.{ending}")));
        for (file, pem) in files.iter().zip(self.sign()) {
            std::fs::write(file, pem).unwrap();
        }
        files
    }

    /// The same for an etcd, which may ask its clients for certificates of this CA.
    pub fn sign_for_etcd(&self, wants_clients: bool) -> TlsFiles {
        let [cert, key] = self.sign_files("etcd");
        let client_ca = wants_clients.then(|| self.path("ca.pem"));
        TlsFiles {
            cert,
            key,
            client_ca,
        }
    }
}
