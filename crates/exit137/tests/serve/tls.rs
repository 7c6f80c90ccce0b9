//! Pages over TLS, as browsers ask for them: HTTP/2, which has no Host header.

use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::server::Server;

/// The status and the text that a browser gets which calls the server at `address` by this name.
async fn ask(address: &str, roots: RootCertStore, url: &str) -> (StatusCode, String) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("TLS");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::get(url).body(Empty::<Bytes>::new()).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

#[test]
fn pages_are_served_over_tls_to_who_calls_the_server_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let (certificate, key) = (path(&certificate), path(&key));
    let arguments = ["--no-kubernetes", "--tls-certificate", &certificate, "--tls-key", &key];
    let server = Server::start(&folder.path().join("data"), &arguments);
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (status, text) = runtime.block_on(ask(&server.pages, roots.clone(), "https://localhost:1370/"));
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(text.contains("<h1>OOM kills</h1>"), "{text}");
    let (status, text) = runtime.block_on(ask(&server.pages, roots, "https://evil.example/"));
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{text}");
}
