//! Requests at a given rate, whether or not those before have been answered: what a client sees waits in queues as well.
//!
//! Each of a few threads has a connection and its share of the rate, and counts from when a request was due, so that a
//! request that could not be sent in time is not forgiven.

use crate::error::BenchError;
use crate::http::{Connection, Request};
use std::time::{Duration, Instant};

const THREADS: usize = 8;

/// Microseconds from when each request was due until it was answered.
pub fn run(request: &Request, per_second: f64, time: Duration) -> Result<Vec<f64>, BenchError> {
    let share = Duration::from_secs_f64(THREADS as f64 / per_second.max(1.0));
    let begin = Instant::now() + Duration::from_millis(20);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..THREADS)
            .map(|number| {
                let first = begin + share.mul_f64(number as f64 / THREADS as f64);
                scope.spawn(move || client(request, first, share, begin + time))
            })
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().expect("a client that does not panic")?);
        }
        Ok(all)
    })
}

fn client(request: &Request, first: Instant, every: Duration, end: Instant) -> Result<Vec<f64>, BenchError> {
    let (mut connection, mut due, mut taken) = (Connection::new(), first, Vec::new());
    while due < end {
        let now = Instant::now();
        // Whoever is far behind gives up: the rate cannot be had, and what was seen until now says so.
        if now > end + (end - first) {
            break;
        }
        if due > now {
            crate::pause(due - now);
        }
        let answer = connection.call(request);
        let answer = answer.map_err(|source| BenchError::Silent { who: "a server under load".into(), source })?;
        if answer.status != 200 {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(BenchError::Refused { who: "a server under load".into(), status: answer.status, body });
        }
        taken.push(due.elapsed().as_nanos() as f64 / 1000.0);
        due += every;
    }
    Ok(taken)
}
