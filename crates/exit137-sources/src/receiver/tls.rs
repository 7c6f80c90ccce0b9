//! TLS from files in PEM, which are read again when they change: certificates of a cluster live for weeks, servers longer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::Tls;

/// TLS cannot be had with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be.
    #[error("cannot read {what} from {}", path.display())]
    Read {
        /// What was expected there.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file that has to hold certificates has none.
    #[error("no certificate in {}: expected PEM", path.display())]
    Empty {
        /// Where.
        path: PathBuf,
    },
    /// The files do not fit together.
    #[error("cannot use the certificate in {}", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The certificates of those who may sign clients' certificates are of no use.
    #[error("cannot check clients' certificates with {}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Files are looked at this often, when somebody connects.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// When a file was written, and how long it is.
type Stamp = Option<(SystemTime, u64)>;

/// Certificate and key, as the files had them last.
pub struct Certificates {
    files: Tls,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    looked: Instant,
    stamps: [Stamp; 3],
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them is not what it should be.
    pub fn read(files: &Tls) -> Result<Arc<Self>, TlsError> {
        let stamps = stamps(files);
        let current = Current { acceptor: acceptor(files)?, looked: Instant::now(), stamps };
        Ok(Arc::new(Self { files: files.clone(), current: Mutex::new(current) }))
    }

    /// What shakes hands with the certificate that is in the files now. While they do not fit together, because they are
    /// being replaced, the old one stays.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            self.look(&mut current);
        }
        current.acceptor.clone()
    }

    fn look(&self, current: &mut Current) {
        let stamps = stamps(&self.files);
        if stamps == current.stamps {
            return;
        }
        match acceptor(&self.files) {
            Ok(acceptor) => {
                (current.acceptor, current.stamps) = (acceptor, stamps);
                tracing::info!(certificate = %self.files.certificate.display(), "a new certificate is used");
            }
            Err(error) => tracing::warn!(%error, "the new certificate cannot be used; the old one stays"),
        }
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

fn stamps(files: &Tls) -> [Stamp; 3] {
    let paths = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
    paths.map(|path| {
        let found = std::fs::metadata(path?).ok()?;
        Some((found.modified().ok()?, found.len()))
    })
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|source| TlsError::Read {
        what: "a private key",
        path: tls.key.clone(),
        source,
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |source| TlsError::Unusable { path: tls.certificate.clone(), source };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let wrong =
                |reason: String| TlsError::ClientCa { path: path.clone(), source: io::Error::other(reason) };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(error.to_string()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Read { what: "certificates", path: path.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(wrong)?;
    if certificates.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned() });
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &Tls) {
        let made = rcgen::generate_simple_self_signed(["recorder.example".to_owned()]).unwrap();
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn files_that_change_are_used_once_they_fit_together() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let files = Tls { certificate, key, client_ca: None };
        write(&files);
        let certificates = Certificates::read(&files).unwrap();
        let used = || {
            let mut current = certificates.current.lock().unwrap();
            certificates.look(&mut current);
            Arc::clone(current.acceptor.config())
        };
        let first = used();
        assert!(Arc::ptr_eq(&first, &used()), "nothing changed");
        write(&files);
        let second = used();
        assert!(!Arc::ptr_eq(&first, &second));
        // Half of a replacement: a key that is of another certificate.
        let certificate = std::fs::read(&files.certificate).unwrap();
        write(&files);
        let whole = std::fs::read(&files.certificate).unwrap();
        std::fs::write(&files.certificate, certificate).unwrap();
        assert!(Arc::ptr_eq(&second, &used()), "the old one stays");
        std::fs::write(&files.certificate, whole).unwrap();
        assert!(!Arc::ptr_eq(&second, &used()));
    }
}
