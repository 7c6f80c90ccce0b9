//! Pages over TLS, as browsers ask for them: HTTP/2, which has no Host header. Captures over TLS, from servers whose
//! certificate a private authority signed, and that ask for one themselves.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
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

/// Files of an authority, of a server that it knows as 127.0.0.1, and of a client; `other-ca.crt` is another's.
fn authority(folder: &Path) {
    let write = |name: &str, pem: String| std::fs::write(folder.join(name), pem).expect("written");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    write("ca.crt", params.self_signed(&key).expect("a certificate").pem());
    let issuer = Issuer::new(params.clone(), key);
    for name in ["127.0.0.1", "client"] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        write(&format!("{name}.crt"), params.signed_by(&key, &issuer).expect("a certificate").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    let other = KeyPair::generate().expect("a key");
    write("other-ca.crt", params.self_signed(&other).expect("a certificate").pem());
}

fn capture(server: &Server, folder: &Path, arguments: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exit137"));
    command.args(["capture", "20261122-085329-3f9a1c", "-o", "captured", "--server"]);
    command.arg(format!("https://{}", server.pages)).current_dir(folder);
    command.args(arguments.iter().flat_map(|(flag, value)| [flag, value]));
    command.output().expect("the program runs")
}

#[test]
fn a_capture_trusts_whom_it_is_told_to_and_shows_who_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    authority(folder.path());
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (certificate, key, ca) = (file("127.0.0.1.crt"), file("127.0.0.1.key"), file("ca.crt"));
    let own = ["--no-kubernetes", "--tls-certificate", &certificate, "--tls-key", &key];
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let none = "answers 404: there is no incident of this name";

    let server = Server::start(&folder.path().join("one"), &own);
    let known = capture(&server, folder.path(), &[("--ca-file", "ca.crt")]);
    assert!(said(&known).contains(none), "{}", said(&known));
    for arguments in [&[][..], &[("--ca-file", "other-ca.crt")][..]] {
        let unknown = capture(&server, folder.path(), arguments);
        assert_eq!(unknown.status.code(), Some(2));
        let expected = format!("cannot trust the server at https://{}: invalid peer", server.pages);
        assert!(said(&unknown).starts_with(&expected), "{}", said(&unknown));
        assert!(said(&unknown).contains("--ca-file FILE names the authority"), "{}", said(&unknown));
    }
    let rubbish = capture(&server, folder.path(), &[("--ca-file", "client.key")]);
    assert_eq!(said(&rubbish), "client.key: expected certificates in PEM\n");

    let asking = [&own[..], &["--tls-client-ca", &ca]].concat();
    let server = Server::start(&folder.path().join("two"), &asking);
    let stranger = capture(&server, folder.path(), &[("--ca-file", "ca.crt")]);
    assert!(said(&stranger).contains("cannot reach"), "{}", said(&stranger));
    let shown =
        [("--ca-file", "ca.crt"), ("--client-certificate", "client.crt"), ("--client-key", "client.key")];
    let welcome = capture(&server, folder.path(), &shown);
    assert!(said(&welcome).contains(none), "{}", said(&welcome));
}
