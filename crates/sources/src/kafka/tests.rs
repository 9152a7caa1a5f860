//! Where reading begins, against a broker of the test's own.

use super::*;
use crate::stage::{Eater, Stage};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wire::Writer;

const PATIENCE: Duration = Duration::from_secs(30);
/// Of questions.
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;

/// A topic of three partitions: this broker leads the second, a broker that is gone the first, and nobody the third.
fn metadata(own: SocketAddr, gone: SocketAddr) -> Writer {
    let broker = |writer: Writer, id: i32, at: SocketAddr| {
        writer.i32(id).text(&at.ip().to_string()).i32(at.port().into()).i16(-1)
    };
    let brokers = broker(broker(Writer::default().i32(2), 1, own), 2, gone);
    let topic = brokers.i32(1).i32(1).i16(0).text("t").i8(0).i32(3);
    let led = |writer: Writer, index: i32, leader: i32| writer.i16(0).i32(index).i32(leader).i32(0).i32(0);
    led(led(led(topic, 0, 2), 1, 1), 2, -1)
}

async fn answer(mut stream: TcpStream, own: SocketAddr, gone: SocketAddr) -> std::io::Result<()> {
    loop {
        let length = stream.read_i32().await? as usize;
        let mut request = vec![0; length];
        stream.read_exact(&mut request).await?;
        let mut head = wire::Reader(&request);
        let (question, _, number) = (head.i16().unwrap(), head.i16().unwrap(), head.i32().unwrap());
        let body = match question {
            METADATA => metadata(own, gone),
            LIST_OFFSETS => Writer::default().i32(1).text("t").i32(1).i32(1).i16(0).i64(-1).i64(7),
            // There is nothing to be fetched.
            _ => std::future::pending().await,
        };
        let length = 4 + body.0.len() as i32;
        stream.write_all(&[&length.to_be_bytes()[..], &number.to_be_bytes(), &body.0].concat()).await?;
    }
}

#[tokio::test]
async fn a_partition_without_its_broker_keeps_no_other_and_its_beginning() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream, own, gone));
        }
    });
    let settings = json!({ "Topics": ["t"], "StartingPosition": "LATEST" });
    let stage = Stage::new(&own.to_string(), settings, aws::Aws::default(), Arc::new(Eater));
    let polling = tokio::spawn(poll(stage.work.clone()));
    let begun = async {
        loop {
            let positions = stage.work.store.positions("u").unwrap();
            if positions.get("t-1").is_some_and(|position| position["next"] == 7) {
                return positions;
            }
            tokio::task::yield_now().await;
        }
    };
    let positions = tokio::time::timeout(PATIENCE, begun).await.expect("the partition with a broker is read");
    for without in ["t-0", "t-2"] {
        assert!(positions[without]["moment"].as_i64().unwrap() > 0, "{without} begins with what comes from now on");
    }
    stage.stop.send_replace(true);
    polling.await.unwrap();
}
