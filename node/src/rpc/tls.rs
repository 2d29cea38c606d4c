//! TLS of the RPC: a certificate and its key from PEM files, read once, at the start (CometBFT `rpc/jsonrpc/server/http_server.go`,
//! `ServeTLS`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing of the kind.
    #[error("{key}: {} holds no {what} that can be read", .path.display())]
    File {
        /// The key of the configuration.
        key: &'static str,
        /// What was expected.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The key does not belong to the certificate, or is of a kind that is not known.
    #[error("rpc.tls_cert_file and rpc.tls_key_file do not go together")]
    Pair(#[source] rustls::Error),
}

/// How clients are spoken to. Cheap to clone.
#[derive(Clone)]
pub struct Tls(pub(super) TlsAcceptor);

impl Tls {
    /// Reads the certificate, with those of its issuers behind it, and the key.
    ///
    /// # Errors
    /// Where a file is missing or damaged, or the two do not go together.
    pub fn read(cert: &Path, key: &Path) -> Result<Tls, TlsError> {
        let failed = |(name, what), path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::File { key: name, what, path, source }
        };
        let certificate = ("rpc.tls_cert_file", "certificate");
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(|all| all.collect::<Result<Vec<_>, _>>())
            .map_err(failed(certificate, cert))?;
        if chain.is_empty() {
            return Err(failed(certificate, cert)(pem::Error::NoItemsFound));
        }
        let secret = PrivateKeyDer::from_pem_file(key);
        let secret = secret.map_err(failed(("rpc.tls_key_file", "private key"), key))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(TlsError::Pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls(TlsAcceptor::from(Arc::new(config))))
    }
}
