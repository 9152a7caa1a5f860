//! Functions of a template: from its configuration to its fork point, and into its children.

use crate::abi;
pub use crate::fifo::fifo;
use crate::instance::{self, Heritage, Loaded};
use crate::object::{self, Object, Raised, because};
use crate::prepared::Prepared;
use crate::{hooks, load, place};
use cfork::forkpoint::{self, ForkPoint, ServeError};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

static POINT: Mutex<Option<ForkPoint>> = Mutex::new(None);
static PREPARED: OnceLock<Prepared> = OnceLock::new();

fn point() -> MutexGuard<'static, Option<ForkPoint>> {
    POINT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn out_of_turn() -> Raised {
    Raised::Because("this process is not at the right stage for that".into())
}

fn prepared() -> Result<&'static Prepared, Raised> {
    PREPARED.get().ok_or_else(out_of_turn)
}

/// `configure() -> bytes`
pub fn configure() -> Result<Object, Raised> {
    // SAFETY: the worker starts a template with its control socket there.
    let (opened, config) = unsafe { ForkPoint::open() }.map_err(|e| because("no worker at descriptor 3")(&e))?;
    *point() = Some(opened);
    Object::bytes(&config)
}

/// `prepare(dict)`
pub fn prepare(dict: &Object) -> Result<Object, Raised> {
    PREPARED.set(Prepared::from_dict(dict)?).map_err(|_| out_of_turn())?;
    Ok(Object::none())
}

/// `settle(config)`: makes the template the place of its function.
pub fn settle(config: &Object) -> Result<Object, Raised> {
    place::settle(prepared()?, config.contents()?).map(|_| Object::none())
}

/// `rehearse_request() -> str | bytes`
pub fn rehearse_request() -> Result<Object, Raised> {
    instance::rehearse(prepared()?)
}

/// `rehearse_import(folder, name) -> module | None`
pub fn rehearse_import(folder: &Object, name: &Object) -> Result<Object, Raised> {
    let imported = load::import(prepared()?, &folder.string()?, &name.string()?, name)?;
    Ok(imported.unwrap_or_else(Object::none))
}

/// `rehearse_fork() -> int`
pub fn rehearse_fork() -> Result<Object, Raised> {
    // The hooks of Python's own are of no use to a child that ends at once.
    forkpoint::rehearse().map_err(|e| because("the rehearsal of a fork failed")(&e))?;
    Object::number(forkpoint::threads().into())
}

/// `obstacles() -> list[str]`
pub fn obstacles() -> Result<Object, Raised> {
    let mut point = point();
    let point = point.as_mut().ok_or_else(out_of_turn)?;
    let stock = point.take_stock(&[]).map_err(|e| because("the open descriptors cannot be listed")(&e))?;
    let shared = cfork::memory::shared().map_err(|e| because("the mappings cannot be listed")(&e))?;
    let memory = shared.iter().map(|area| format!("memory shared with other processes ({})", area.name));
    let obstacles: Vec<String> = stock.foreign.iter().map(|foreign| foreign.what.clone()).chain(memory).collect();
    Object::list(obstacles.iter().map(|text| Object::text(text.as_bytes())))
}

/// `fill_holes()`
pub fn fill_holes() -> Result<Object, Raised> {
    object::fill_pools();
    cfork::memory::fill_holes();
    Ok(Object::none())
}

/// `serve(report, handler, config, seeds, asked, restored)`: reports, and forks. Returns never: a child raises what ends it.
pub fn serve(arguments: &Object) -> Result<Object, Raised> {
    let prepared = prepared()?;
    let [report, handler, config, seeds] = [0, 1, 2, 3].map(|index| arguments.item(index));
    let asked = arguments.item(4)?.as_number()? != 0;
    let loaded = match handler? {
        none if none.is_none() => {
            // A child would have to forget it, one variable after the other.
            prepared.environ.clear();
            None
        }
        handler => Some(Loaded { handler, settled: place::read(config?.contents()?)? }),
    };
    let restored = Some(arguments.item(5)?).filter(|restored| !restored.is_none());
    let heritage = Heritage { loaded, seeds: seeds?.items()?, restored };
    let point = point().take().ok_or_else(out_of_turn)?;
    point.ready(report?.contents()?).map_err(|e| because("the worker cannot be told")(&e))?;
    hooks::template_forks(asked);
    // Once for all children: the interpreter waits as it is before a fork, and each of them goes on as after one.
    // SAFETY: the lock is held, and the template has one thread.
    unsafe { abi::PyOS_BeforeFork() };
    // SAFETY: the template has counted its threads: others than this one would have made it report itself as not
    // forkable, and the worker does not fork from such.
    match unsafe { point.serve() } {
        Ok(newborn) => {
            // SAFETY: this is the child, in the thread that forked.
            unsafe { abi::PyOS_AfterFork_Child() };
            instance::live(prepared, newborn, heritage).map(|never| match never {})
        }
        Err(ServeError::Gone) => os::process::exit_now(0),
        Err(error) => Err(Raised::Because(error.to_string())),
    }
}
