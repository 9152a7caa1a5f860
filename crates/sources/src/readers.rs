//! Readers of a source that comes in parts (shards, partitions): one task for each part, which is begun again when it has
//! ended. What a part is, where its reading begins and whether it is to be read now, is for the source to say.

use crate::work::{BackOff, Work};
use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;
use tokio::task::{Id, JoinSet};

/// How often parts are looked for that are new, or have moved.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Before anything is begun because a reader has ended.
const PAUSE: Duration = Duration::from_secs(1);

/// A source in parts.
pub trait Divided: Send {
    /// The name of a part.
    type Part: Eq + Send;
    type Error: Display + Send;

    /// Begins to read the parts that are to be read and are not.
    fn begin(&self, readers: &mut Readers<Self::Part>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Who reads which part.
pub struct Readers<P> {
    tasks: JoinSet<()>,
    parts: HashMap<Id, P>,
}

impl<P: Eq> Readers<P> {
    pub fn is_reading(&self, part: &P) -> bool {
        self.parts.values().any(|other| other == part)
    }

    /// Reads a part until the reader ends, for whatever reason.
    pub fn add(&mut self, part: P, reader: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(reader);
        self.parts.insert(task.id(), part);
    }

    /// Waits for a reader's end; for ever where there are none.
    async fn ended(&mut self) {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => {
                tracing::error!(%error, "a reader of an event source panicked, and is begun again");
                error.id()
            }
            None => std::future::pending().await,
        };
        self.parts.remove(&id);
    }
}

/// Keeps a source read until it is time to stop; what is under way then ends first.
pub async fn keep<D: Divided>(work: &Work, source: D) {
    let mut readers = Readers { tasks: JoinSet::new(), parts: HashMap::new() };
    let mut back_off = BackOff::new(PAUSE, Duration::from_secs(30));
    loop {
        let pause = match work.unless_stopped(source.begin(&mut readers)).await {
            Err(_) => break,
            Ok(Ok(())) => {
                back_off.reset();
                LOOK_EVERY
            }
            Ok(Err(error)) => {
                work.problem(&error);
                back_off.pause()
            }
        };
        work.ready();
        // One that has ended may have to be begun again, or others in its place.
        match work.unless_stopped(tokio::time::timeout(pause, readers.ended())).await {
            Err(_) => break,
            Ok(Err(_)) => continue,
            Ok(Ok(())) => {}
        }
        if work.pause(PAUSE).await.is_err() {
            break;
        }
    }
    while readers.tasks.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Eater, Stage};
    use std::sync::{Arc, Mutex};

    /// Two parts, of which the first has a reader that panics.
    struct Two(Arc<Mutex<Vec<u8>>>);

    impl Divided for Two {
        type Part = u8;
        type Error = &'static str;

        async fn begin(&self, readers: &mut Readers<u8>) -> Result<(), &'static str> {
            for part in [1, 2] {
                if !readers.is_reading(&part) {
                    self.0.lock().unwrap().push(part);
                    readers.add(part, async move {
                        assert!(part == 2, "on purpose");
                        std::future::pending().await
                    });
                }
            }
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_panics_is_begun_again_and_no_other_twice() {
        let stage = Stage::new("localhost:1", serde_json::json!({}), aws::Aws::default(), Arc::new(Eater));
        let begun = Arc::new(Mutex::new(Vec::new()));
        let keeping = tokio::time::timeout(PAUSE * 7 / 2, keep(&stage.work, Two(begun.clone())));
        assert!(keeping.await.is_err());
        assert_eq!(*begun.lock().unwrap(), [1, 2, 1, 1, 1]);
    }
}
