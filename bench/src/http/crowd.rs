//! Many clients at once: one thread, one connection each, a new request as soon as the last is answered.

use super::{Answer, PATIENCE, Request};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Clients, and what each of them asks for.
pub struct Crowd {
    pub clients: usize,
    pub request: Request,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Microseconds from the last byte sent to the last byte received, for each request that was answered as it should be.
    pub latencies: Vec<f64>,
    /// Answers that were not.
    pub refused: u64,
    pub took: Duration,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }
}

impl Crowd {
    /// Asks for `time`. A client whose connection closes makes a new one.
    pub fn ask_for(&self, time: Duration) -> io::Result<Load> {
        let until = Instant::now() + time;
        self.run(move |_| Instant::now() < until)
    }

    /// Every client asks `times`.
    pub fn ask(&self, times: usize) -> io::Result<Load> {
        self.run(move |asked| asked < times)
    }

    fn run(&self, again: impl Fn(usize) -> bool + Clone + Send + 'static) -> io::Result<Load> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let began = Instant::now();
        let mut load = runtime.block_on(async {
            let mut clients = JoinSet::new();
            for _ in 0..self.clients {
                clients.spawn(client(self.request.clone(), again.clone()));
            }
            let mut sum = Load::default();
            while let Some(joined) = clients.join_next().await {
                let one = joined.map_err(io::Error::other)??;
                sum.latencies.extend(one.latencies);
                sum.refused += one.refused;
            }
            io::Result::Ok(sum)
        })?;
        load.took = began.elapsed();
        Ok(load)
    }
}

async fn client(request: Request, again: impl Fn(usize) -> bool) -> io::Result<Load> {
    let (mut load, mut stream, mut buffer) = (Load::default(), None, Vec::with_capacity(64 * 1024));
    let mut asked = 0;
    while again(asked) {
        let connection = match &mut stream {
            Some(connection) => connection,
            None => stream.insert(connect(&request).await?),
        };
        let began = Instant::now();
        let answered = tokio::time::timeout(PATIENCE, exchange(connection, &request, &mut buffer)).await;
        match answered.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
            Ok(answer) => {
                asked += 1;
                if answer.status == 200 {
                    load.latencies.push(began.elapsed().as_nanos() as f64 / 1000.0);
                } else {
                    load.refused += 1;
                }
                if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                    stream = None;
                }
            }
            // Closed between two requests, as a server may.
            Err(_) if buffer.is_empty() && asked > 0 => stream = None,
            Err(error) => return Err(error),
        }
    }
    Ok(load)
}

async fn connect(request: &Request) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(request.to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn exchange(stream: &mut TcpStream, request: &Request, buffer: &mut Vec<u8>) -> io::Result<Answer> {
    buffer.clear();
    stream.write_all(&request.bytes).await?;
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(answer) = Answer::parse(buffer)? {
            return Ok(answer);
        }
    }
}
