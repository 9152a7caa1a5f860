//! Deployment packages, downloaded: where `GetFunction` says that the code is. Who knows the hash may have the code.

use crate::http::{Body, answer};
use crate::lambda::Fault;
use crate::route::{Answer, Exchange};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use runtime::codestore::CodeId;
use std::fs::File;
use std::io::Read;
use tokio::sync::mpsc;

const PIECE: usize = 256 * 1024;

pub async fn download(exchange: Exchange) -> Answer {
    let hash = exchange.capture(0);
    let missing = || Fault::not_found(format!("There is no package {hash} on this node."));
    let id = CodeId::from_hex(&hash).ok_or_else(missing)?;
    let opened = exchange.gateway.blocking(move |gateway| open(gateway.registry.code().zip(id))).await?;
    let (file, length) = opened.map_err(|_| missing())?;
    let (sender, receiver) = mpsc::channel(2);
    // Ends with the file, or when the client has gone.
    tokio::task::spawn_blocking(move || send(file, &sender));
    let mut response = answer::with(StatusCode::OK, HeaderValue::from_static("application/zip"), Bytes::new());
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    *response.body_mut() = Body::Stream(receiver);
    Ok(response)
}

fn open(path: std::path::PathBuf) -> std::io::Result<(File, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn send(mut file: File, to: &mpsc::Sender<std::io::Result<Bytes>>) {
    loop {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece);
        let piece = match read {
            Ok(0) => return,
            Ok(length) => {
                piece.truncate(length);
                Ok(piece.into())
            }
            Err(error) => Err(error),
        };
        let failed = piece.is_err();
        if to.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}
