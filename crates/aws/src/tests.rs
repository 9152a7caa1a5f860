//! The client against a server of the test's own, on a port from the kernel.

use crate::config::{AwsConfig, Endpoint};
use crate::sqs::Outgoing;
use crate::{Arn, Aws, CallError, Service};
use rustls::pki_types::PrivateKeyDer;
use serde_json::Map;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A client whose service answers its connections with these texts, one after the other; and what it was asked.
async fn service(answers: &'static [&'static str], config: AwsConfig) -> (Aws, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::try_from(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked.push(read(&mut stream).await);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    (Aws::open(AwsConfig { endpoint, ..config }).unwrap(), asked)
}

async fn read(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        request.extend_from_slice(&piece[..length]);
        let text = String::from_utf8(request.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= announced.unwrap_or(0) || length == 0 {
            return text;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
const QUEUE: Arn<'_> =
    Arn { partition: "aws", service: "sqs", region: "eu-west-1", account: "123456789012", resource: "q" };

async fn send(aws: &Aws) -> Result<(), CallError> {
    let message = Outgoing { body: "{}", attributes: &Map::new(), id: "1" };
    aws.send_message(&QUEUE, message).await
}

#[tokio::test]
async fn calls_are_signed_and_say_what_they_want() {
    let (aws, asked) = service(&[OK], AwsConfig::default()).await;
    send(&aws).await.unwrap();
    let asked = asked.await.unwrap().remove(0);
    assert!(asked.starts_with("POST / HTTP/1.1\r\n") && asked.contains("x-amz-target: AmazonSQS.SendMessage\r\n"));
    assert!(asked.contains("/eu-west-1/sqs/aws4_request, SignedHeaders=content-type;host;x-amz-content-sha256;"));
    assert!(asked.contains("/123456789012/q\"") && asked.contains("\"MessageBody\":\"{}\""));
}

#[tokio::test]
async fn a_busy_service_is_asked_again_and_not_for_ever() {
    let (aws, asked) = service(&[BUSY, BUSY, OK], AwsConfig::default()).await;
    send(&aws).await.unwrap();
    assert_eq!(asked.await.unwrap().len(), 3);
    let (aws, _asked) = service(&[BUSY, BUSY], AwsConfig { retries: 1, ..AwsConfig::default() }).await;
    let error = send(&aws).await.unwrap_err();
    assert!(matches!(error, CallError::Refused { status: 503, .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn refusals_are_told_in_every_form() {
    const JSON: &str = "HTTP/1.1 400 No\r\n\r\n{\"__type\":\"a.b#QueueGone\",\"message\":\"no such\"}";
    const OLD: &str = "HTTP/1.1 400 No\r\nx-amzn-query-error: AWS.Old;Sender\r\n\r\n{}";
    const XML: &str = "HTTP/1.1 404 No\r\n\r\n<Error><Code>NoKey</Code><Message>m</Message></Err>";
    let (aws, _asked) = service(&[JSON, OLD, XML], AwsConfig::default()).await;
    for code in ["QueueGone", "AWS.Old", "NoKey"] {
        let error = send(&aws).await.unwrap_err();
        assert_eq!((error.code(), error.is_transient()), (code, false), "{error}");
    }
}

#[tokio::test]
async fn what_is_silent_cut_off_or_too_long_ends_the_call() {
    let (aws, asked) = service(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"], AwsConfig::default()).await;
    assert!(matches!(send(&aws).await, Err(CallError::Broken { .. })));
    drop(asked);
    let (aws, _asked) = service(&[OK], AwsConfig::default()).await;
    let got = aws.get_object("us-east-1", ("bucket", "a b/c"), None, 1).await;
    assert!(matches!(got, Err(CallError::TooLong { limit: 1, .. })));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::try_from(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let aws = Aws::open(AwsConfig { endpoint, timeout_s: 1, ..AwsConfig::default() }).unwrap();
    assert!(matches!(send(&aws).await, Err(CallError::Silent { .. })));
    drop(listener);
    assert!(matches!(send(&aws).await, Err(CallError::Unreachable { .. })));
}

#[tokio::test]
async fn one_deletion_that_fails_does_not_keep_the_others() {
    const FAILED: &str = concat!(
        "HTTP/1.1 200 OK\r\nContent-Length: 94\r\n\r\n",
        r#"{"Failed":[{"Id":"0","Code":"ReceiptHandleIsInvalid","Message":"expired","SenderFault":true}]}"#
    );
    const REFUSED: &str = "HTTP/1.1 400 No\r\nContent-Length: 14\r\n\r\n{\"__type\":\"x\"}";
    let receipts: Vec<String> = (0..25).map(|number| format!("receipt-{number}")).collect();
    let receipts: Vec<&str> = receipts.iter().map(String::as_str).collect();
    let config = AwsConfig { retries: 0, ..AwsConfig::default() };
    let (aws, asked) = service(&[FAILED, REFUSED, OK], config.clone()).await;
    assert!(aws.delete_messages(&QUEUE, &receipts).await.is_err());
    assert!(asked.await.unwrap()[2].contains("receipt-24"));
    let (aws, _asked) = service(&[FAILED], config).await;
    assert_eq!(aws.delete_messages(&QUEUE, &receipts[..1]).await.unwrap_err().code(), "ReceiptHandleIsInvalid");
}

/// A service with a certificate of its own, which only its own bundle trusts.
#[tokio::test]
async fn a_service_is_reached_by_tls_where_it_can_be_trusted() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _asked = stream.read_u8().await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
            let _over = stream.shutdown().await;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("bundle.pem");
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, made.cert.der());
    std::fs::write(&ca_file, format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")).unwrap();
    let asked = async |host: &str, ca_file: &Path| {
        let endpoint = Endpoint::try_from(format!("https://{host}:{port}")).unwrap();
        let config = AwsConfig { endpoint, ca_file: ca_file.to_owned(), ..AwsConfig::default() };
        send(&Aws::open(config).unwrap()).await
    };
    asked("localhost", &ca_file).await.unwrap();
    for (host, ca_file) in [("127.0.0.1", ca_file.as_path()), ("localhost", Path::new(""))] {
        let error = asked(host, ca_file).await.unwrap_err();
        assert!(matches!(error, CallError::Tls { .. }) && !error.is_transient(), "{host}: {error}");
    }
    let config = AwsConfig { endpoint: Endpoint::try_from("https://a".to_owned()).unwrap(), ..AwsConfig::default() };
    for wrong in ["nowhere.pem", "empty.pem"] {
        std::fs::write(folder.path().join("empty.pem"), "no certificate").unwrap();
        let config = AwsConfig { ca_file: folder.path().join(wrong), ..config.clone() };
        assert!(Aws::open(config).unwrap_err().to_string().contains("`ca_file` in [aws]"));
    }
    serving.abort();
}

#[tokio::test]
async fn without_an_endpoint_one_is_told_what_to_configure() {
    let aws = Aws::default();
    assert!(aws.check(Service::Sqs).unwrap_err().to_string().contains("`sqs` in [aws.endpoints]"));
    assert!(!send(&aws).await.unwrap_err().is_transient());
}
