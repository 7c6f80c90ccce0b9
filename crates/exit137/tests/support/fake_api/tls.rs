//! A cluster's certificates, and a listener that asks clients for theirs, as real API servers do.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Writes `ca.crt`, `client.crt` and `client.key` into `folder`; what a server needs that asks for them, if it does.
pub(super) fn certificates(folder: &Path, asks: bool) -> ServerConfig {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&ca_key).expect("a certificate");
    let issuer = Issuer::new(params, ca_key);
    let signed = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &issuer).expect("a certificate"), key)
    };
    let ((server, server_key), (client, client_key)) = (signed("127.0.0.1"), signed("exit137"));
    let files =
        [("ca.crt", ca.pem()), ("client.crt", client.pem()), ("client.key", client_key.serialize_pem())];
    files.iter().for_each(|(name, pem)| std::fs::write(folder.join(name), pem).expect("it can be written"));
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = if asks { verifier } else { verifier.allow_unauthenticated() };
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("TLS");
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(server_key.serialize_der());
    config
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![server.der().clone()], key.into())
        .expect("a certificate and its key")
}

/// Shakes hands with one client after the other.
pub(super) struct TlsListener {
    pub(super) listener: TcpListener,
    pub(super) acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, from)) = self.listener.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
