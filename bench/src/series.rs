//! Arms that are measured in turn, so that whatever the machine does meanwhile happens to all of them.

use crate::error::BenchError;
use crate::figure::{Arm, Unit};
use crate::http::{Connection, Request};
use crate::spans::{HEADER, Spans};
use std::time::{Duration, Instant};

/// A request that is sent again and again, and what came of it.
pub struct Series {
    pub name: String,
    connection: Connection,
    request: Request,
    /// Where its instances must come from (`cold`, `stem`, `warm`): samples that come from elsewhere do not count.
    wanted: Option<&'static str>,
    pub spans: Vec<Spans>,
    /// Milliseconds from the request to the answer, as the client sees it.
    pub latencies: Vec<f64>,
    /// Samples that did not count.
    pub strays: usize,
}

/// How the samples of a series follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So long after the one before, of whichever series.
    Apart(Duration),
    /// So many, one after the other, before it is the next series' turn.
    BackToBack(usize),
}

impl Series {
    pub fn new(name: impl Into<String>, request: Request, wanted: Option<&'static str>) -> Self {
        let (spans, latencies) = (Vec::new(), Vec::new());
        Self { name: name.into(), connection: Connection::new(), request, wanted, spans, latencies, strays: 0 }
    }

    /// One sample.
    fn take(&mut self) -> Result<(), BenchError> {
        let began = Instant::now();
        let who = || self.name.clone();
        let answer = self.connection.call(&self.request).map_err(|source| BenchError::Silent { who: who(), source })?;
        let latency = began.elapsed();
        if answer.status != 200 || answer.header("x-amz-function-error").is_some() {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(BenchError::Refused { who: who(), status: answer.status, body });
        }
        let text = answer.header(HEADER).unwrap_or_default();
        let spans = Spans::parse(text).ok_or_else(|| BenchError::NoSpans { who: who() })?;
        if self.wanted.is_some_and(|wanted| !text.split(',').any(|field| field.strip_prefix("start=") == Some(wanted)))
        {
            self.strays += 1;
            return Ok(());
        }
        self.spans.push(spans);
        self.latencies.push(latency.as_nanos() as f64 / 1e6);
        Ok(())
    }

    /// From the request's arrival to the handler's first line.
    pub fn start(&self) -> Option<Arm> {
        let samples: Vec<f64> = self.spans.iter().map(|spans| spans.start().as_nanos() as f64 / 1e6).collect();
        Arm::of(&self.name, Unit::Milliseconds, &samples)
    }

    /// From the request to the answer.
    pub fn latency(&self) -> Option<Arm> {
        Arm::of(&self.name, Unit::Milliseconds, &self.latencies)
    }

    /// One arm for each piece of the way to the handler and back.
    pub fn pieces(&self) -> Vec<Arm> {
        let all: Vec<_> = self.spans.iter().map(Spans::pieces).collect();
        let names: Vec<&str> = all.first().map(|one| one.iter().map(|(name, _)| *name).collect()).unwrap_or_default();
        let arm = |name: &str| {
            let of = |pieces: &Vec<(&str, f64)>| pieces.iter().find(|(known, _)| *known == name).map(|(_, us)| *us);
            let samples: Vec<f64> = all.iter().filter_map(of).collect();
            Arm::of(format!("{}: {name}", self.name), Unit::Microseconds, &samples)
        };
        names.into_iter().filter_map(arm).collect()
    }

    /// What a reader must know of samples that did not count.
    pub fn remark(&self) -> Option<String> {
        let Self { name, strays, latencies, .. } = self;
        let all = strays + latencies.len();
        (*strays > 0).then(|| format!("{name}: {strays} of {all} requests found no such instance and are not counted."))
    }
}

/// Takes `samples` of each series at this pace, after a few that do not count.
pub fn measure(series: &mut [Series], samples: usize, pace: Pace) -> Result<(), BenchError> {
    const WARM_UP: usize = 3;
    for one in series.iter_mut() {
        (0..WARM_UP).try_for_each(|_| one.take())?;
        (one.spans, one.latencies, one.strays) = (Vec::new(), Vec::new(), 0);
    }
    // A path that a node does not take often enough ends with fewer samples, not in an endless measurement.
    let rounds = |done: usize| done < samples * 3;
    let mut done = 0;
    while rounds(done) && series.iter().any(|one| one.latencies.len() < samples) {
        for one in series.iter_mut().filter(|one| one.latencies.len() < samples) {
            match pace {
                Pace::Apart(gap) => {
                    crate::pause(gap);
                    one.take()?;
                }
                Pace::BackToBack(block) => (0..block).try_for_each(|_| one.take())?,
            }
        }
        done += if let Pace::BackToBack(block) = pace { block } else { 1 };
    }
    Ok(())
}
