//! What the machine decides, done: events are read from disk, handed to the performer, and concluded.

use super::event::{Event, Id, Performed, Performer};
use super::machine::{Ending, Step, Verdict};
use super::record;
use super::writer::{Command, Conclusion, Fate};
use super::{Queue, store};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Events that are read at once.
const READ: usize = 32;
/// The clock is looked at this often, in case somebody has set it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of an answer that a dead event keeps: a queue full of dead events is no larger for what functions have said.
const ERROR_MAX: usize = 8 * 1024;

/// Runs until the queue is stopped, or nobody has it any more.
pub async fn run(queue: Weak<Queue>, performer: Arc<dyn Performer>) {
    let Some(mut changed) = queue.upgrade().map(|queue| queue.shared.changed.subscribe()) else { return };
    loop {
        let Some(strong) = queue.upgrade() else { return };
        if strong.shared.stopped.load(Relaxed) {
            return;
        }
        changed.mark_unchanged();
        let steps = strong.shared.steps(&*performer, READ);
        if steps.is_empty() {
            let pause = strong.shared.pause(PATIENCE);
            drop(strong);
            // Either is a reason to look again; a queue that is gone is found by looking.
            let _ = tokio::time::timeout(pause, changed.changed()).await;
            continue;
        }
        start(strong, steps, &performer).await;
    }
}

async fn start(queue: Arc<Queue>, steps: Vec<Step>, performer: &Arc<dyn Performer>) {
    let reading = queue.clone();
    let read = tokio::task::spawn_blocking(move || {
        let reader = reading.reader();
        let read = |step: &Step| {
            let (Step::Run(id) | Step::Expire(id)) = *step;
            (*step, id, store::load(&reader, id))
        };
        steps.iter().map(read).collect::<Vec<_>>()
    });
    // The task does not panic: what it calls does not.
    for (step, id, event) in read.await.unwrap_or_default() {
        match (step, event) {
            (Step::Run(_), Ok(Some(mut event))) => {
                event.attempts = queue.shared.machine().attempts(id).unwrap_or(event.attempts);
                tokio::spawn(perform(queue.clone(), id, event, performer.clone()));
            }
            (Step::Expire(_), Ok(Some(event))) => {
                let late = Performed::Throttled;
                queue.conclude(id, &event, &late, Ending::Expired, &**performer);
            }
            (_, Ok(None)) => queue.shared.forget(id),
            (_, Err(error)) => {
                tracing::warn!(%error, "an event could not be read from the queue");
                queue.shared.postpone(id);
            }
        }
    }
}

async fn perform(queue: Arc<Queue>, id: Id, event: Event, performer: Arc<dyn Performer>) {
    // In a task of its own, so that a panic is this event's trouble alone.
    let performed = tokio::spawn(performer.perform(event.clone())).await;
    let performed = performed.unwrap_or_else(|error| Performed::Broken { reason: error.to_string() });
    let ending = match &performed {
        Performed::Answered { failed: false, .. } => Ending::Succeeded,
        Performed::Answered { failed: true, .. } => Ending::Failed,
        Performed::Throttled => Ending::Throttled,
        Performed::Broken { reason } => {
            tracing::debug!(request = event.request_id, reason, "an event could not be delivered, and waits");
            Ending::Broken
        }
        Performed::Impossible { .. } => Ending::Impossible,
    };
    queue.conclude(id, &event, &performed, ending, &*performer);
}

impl Queue {
    fn conclude(&self, id: Id, event: &Event, performed: &Performed, ending: Ending, performer: &dyn Performer) {
        let now = api::time::now_ms();
        let policy = performer.policy(&event.target);
        // Held until the conclusion is handed over: an event that the machine has no more is the writer's to end.
        let mut machine = self.shared.machine();
        let verdict = machine.conclude(id, ending, now, &policy);
        let (fate, messages) = match verdict {
            Verdict::Again => {
                drop(machine);
                return self.shared.changed();
            }
            Verdict::Done => (Fate::Gone, record::messages(event, performed, None, &policy, now)),
            Verdict::RetryAt { due_ms, attempts } => {
                self.shared.retries.fetch_add(1, Relaxed);
                (Fate::Retry { due_ms, attempts }, Vec::new())
            }
            Verdict::Dead(reason) => {
                let messages = record::messages(event, performed, Some(reason), &policy, now);
                let tried = event.attempts + u32::from(ending == Ending::Failed);
                let fate = match messages.is_empty() {
                    true => Fate::Dead { reason: reason.as_str(), attempts: tried, error: error(performed) },
                    false => Fate::Gone,
                };
                (fate, messages)
            }
        };
        self.shared.owe(Conclusion { id, bytes: event.bytes(), fate, messages });
        drop(machine);
        // A writer that has no room for another command is awake, and looks for itself.
        let _ = self.commands.try_send(Command::Look);
        self.shared.changed();
    }
}

fn error(performed: &Performed) -> Vec<u8> {
    match performed {
        Performed::Answered { body, .. } => body[..body.len().min(ERROR_MAX)].to_vec(),
        Performed::Broken { reason } | Performed::Impossible { reason } => reason.clone().into_bytes(),
        Performed::Throttled => Vec::new(),
    }
}
