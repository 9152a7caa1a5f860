//! An instance: settles, loads its handler, takes invocations and answers them, until it is ended.

use crate::answer::{Answer, answer, too_large};
use crate::object::{Object, Raised, because, handle_signals, sys, without_lock};
use crate::place::{self, Settled};
use crate::prepared::Prepared;
use crate::{hooks, load};
use cfork::invocation::Invocation;
use cfork::{Child, Instance, Newborn};
use interconnect::channel::SendError;
use os::variable::Variable;
use std::convert::Infallible;
use std::ffi::CStr;
use std::time::Duration;

/// A function that is loaded.
pub struct Loaded {
    pub handler: Object,
    pub settled: Settled,
}

/// What a child gets from its template.
pub struct Heritage {
    /// The function, from a dedicated template.
    pub loaded: Option<Loaded>,
    /// To be called, so that the child draws other random numbers than its siblings.
    pub seeds: Vec<Object>,
    /// To be called before the first invocation: the function, from a dedicated template, wants to know that it was forked.
    pub restored: Option<Object>,
}

/// The function of a start that is rehearsed.
const REHEARSED: &[u8] = br#"{
    "function_name": "rehearsal", "function_version": "$LATEST", "handler": "rehearsal.handler", "memory_mib": 128,
    "region": "us-east-1", "log_group": "/aws/lambda/rehearsal", "log_stream": "2000/01/01/[$LATEST]0",
    "initialization_type": "on-demand", "runtime": "python3.11", "environment": {"KEY": "value"}
}"#;

/// The life of a child. It ends with the process, or with what the function raises to end it.
pub fn live(prepared: &Prepared, newborn: Newborn, heritage: Heritage) -> Result<Infallible, Raised> {
    hooks::function_forks();
    for seed in &heritage.seeds {
        seed.call([])?;
    }
    if !newborn.is_wanted() {
        // Nobody waits: what a start will touch is touched, and so copied, before it comes.
        place::settle(prepared, REHEARSED)?;
        prepared.rehearse_start.call([])?;
    }
    let Child { config, mut instance } = newborn.settle();
    let outcome = match heritage.loaded {
        Some(loaded) => {
            let restored = heritage.restored;
            let changed = place::change(prepared, &config);
            changed.and_then(|()| restored.map_or(Ok(()), |restored| restored.call([]).map(drop))).map(|()| loaded)
        }
        None => settle_and_load(prepared, &config),
    };
    let loaded = match outcome {
        Ok(loaded) => loaded,
        Err(raised) => return cannot_load(prepared, &mut instance, raised),
    };
    instance.ready().map_err(|e| because("the channel")(&e))?;
    serve(prepared, &mut instance, &loaded)
}

fn settle_and_load(prepared: &Prepared, config: &[u8]) -> Result<Loaded, Raised> {
    let settled = place::settle(prepared, config)?;
    let handler = load::handler(prepared, &settled.handler)?;
    if settled.snap_start {
        prepared.snapshot.call([])?;
    }
    Ok(Loaded { handler, settled })
}

fn cannot_load(prepared: &Prepared, instance: &mut Instance, raised: Raised) -> Result<Infallible, Raised> {
    let error = raised.catch()?;
    let text = prepared.failed.call([&error, &prepared.empty])?;
    flush(prepared)?;
    instance.init_failed(text.contents()?).map_err(|e| because("the channel")(&e))?;
    os::process::exit_now(1)
}

/// Answers an event of our own, with a handler of our own, to nobody.
pub fn rehearse(prepared: &Prepared) -> Result<Object, Raised> {
    let invocation = Invocation { function_arn: "arn", ..Invocation::default() };
    let event = br#"{"key": "value", "numbers": [1, 2.5, true, null], "nested": {"text": "\u00e9"}}"#;
    let answered = answer(prepared, &prepared.rehearsed, usize::MAX, &invocation, event, || ())?;
    flush(prepared)?;
    Ok(answered.body)
}

/// Where X-Ray's libraries look for the id of the trace.
struct Trace {
    variable: Variable,
    name: Object,
}

impl Trace {
    fn new() -> Result<Self, Raised> {
        const NAME: &CStr = c"_X_AMZN_TRACE_ID";
        Ok(Self { variable: Variable::new(NAME), name: Object::bytes(NAME.to_bytes())? })
    }

    fn tell(&self, prepared: &Prepared, id: &str) -> Result<(), Raised> {
        if id.is_empty() {
            prepared.set_trace.call([&prepared.empty])?;
            return Ok(());
        }
        // SAFETY: this thread holds the interpreter's lock, so Python code changes nothing. What else a function has running it has at
        // its own risk, as on AWS.
        unsafe { self.variable.set(id.as_bytes()) };
        prepared.environ.insert(&self.name, &Object::bytes(id.as_bytes())?)
    }
}

/// An invocation's head and event, with room for the next.
#[derive(Default)]
struct Taken {
    head: Vec<u8>,
    event: Vec<u8>,
}

/// Events up to this length leave their room to the next.
const KEPT: usize = 64 * 1024;

fn serve(prepared: &Prepared, instance: &mut Instance, loaded: &Loaded) -> Result<Infallible, Raised> {
    let mut taken = Taken::default();
    let trace = Trace::new()?;
    let mut traced = false;
    if !take_now(instance, &mut taken)? {
        // Nobody waits yet: what the first invocation will touch is touched, and so copied, before it comes.
        rehearse(prepared)?;
        take(instance, &mut taken, loaded.settled.spin)?;
    }
    loop {
        let nonsense = || Raised::Because("the gateway sent a malformed head".into());
        let invocation = Invocation::decode(&taken.head).ok_or_else(nonsense)?;
        if traced || !invocation.trace_id.is_empty() {
            trace.tell(prepared, invocation.trace_id)?;
            traced = true;
        }
        let (handler, limit) = (&loaded.handler, loaded.settled.response_max);
        let answered = answer(prepared, handler, limit, &invocation, &taken.event, || instance.begin())?;
        flush(prepared)?;
        if hooks::is_descendant() {
            // The handler has forked, and this is its child, which was not meant to come here.
            os::process::exit_now(0);
        }
        send(prepared, instance, &answered)?;
        taken.event.clear();
        taken.event.shrink_to(KEPT);
        take(instance, &mut taken, loaded.settled.spin)?;
    }
}

fn take(instance: &mut Instance, taken: &mut Taken, spin: Duration) -> Result<(), Raised> {
    while !take_now(instance, taken)? {
        without_lock(|| instance.wait(spin));
        handle_signals()?;
    }
    Ok(())
}

/// Whether there was an invocation to take.
fn take_now(instance: &mut Instance, taken: &mut Taken) -> Result<bool, Raised> {
    let Some(request) = instance.poll().map_err(|e| because("the channel")(&e))? else { return Ok(false) };
    taken.head.clear();
    taken.head.extend_from_slice(request.head());
    taken.event.clear();
    taken.event.resize(request.event_len(), 0);
    request.copy_event(&mut taken.event);
    Ok(true)
}

fn send(prepared: &Prepared, instance: &mut Instance, answered: &Answer) -> Result<(), Raised> {
    let body = answered.body.contents()?;
    match if answered.succeeded { instance.reply(body) } else { instance.fail(body) } {
        Ok(()) => Ok(()),
        Err(SendError::TooLong { limit, .. }) => {
            let error = too_large(prepared, limit)?.body;
            instance.fail(error.contents()?).map_err(|e| because("the channel")(&e))
        }
        Err(error) => Err(because("the channel")(&error)),
    }
}

/// All that was printed is in the log's pipe afterwards.
fn flush(prepared: &Prepared) -> Result<(), Raised> {
    for stream in [sys(c"stdout"), sys(c"stderr")].into_iter().flatten() {
        // The function may have closed it, or put something else there.
        if let Err(raised) = stream.attribute(&prepared.flush).and_then(|flush| flush.call([])) {
            raised.forget()?;
        }
    }
    Ok(())
}
