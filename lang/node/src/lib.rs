//! `lichen.node`: the part of the Node.js runtime that JavaScript cannot do itself.
//!
//! | module | what it is |
//! |---|---|
//! | [`abi`] | Node-API and libuv, as far as they are used |
//! | [`value`] | JavaScript's values and errors as Rust types |
//! | [`template`] | functions of a template: up to the fork point, and out of it |
//! | [`instance`] | functions of an instance: take an invocation, answer it |
//! | [`parts`] | the same for answers that come in parts |
//! | [`fifo`] | FIFOs, for a function's own code |
//! | [`bell`] | the event loop's part in waiting for invocations |
//! | [`stage`] | a channel from a process to itself, for rehearsals |
//! | [`random`] | what makes siblings draw different numbers |
//! | [`trace`] | which trace an invocation belongs to |
//!
//! What an event, a handler or an environment is, is for the JavaScript files in `runtime/` to know.

mod abi;
mod bell;
mod fifo;
mod instance;
mod parts;
mod random;
mod stage;
mod template;
mod trace;
mod value;

use abi::{RawEnv, RawValue};
use std::cell::RefCell;
use value::{Env, Thrown, Value};

/// What this process is.
pub(crate) enum Role {
    Nothing,
    Template(template::Template),
    Newborn(cfork::Newborn),
    Stage(Box<stage::Stage>),
    Instance(cfork::Instance),
}

thread_local! {
    /// The role is the main thread's: a worker thread that loads the addon has none.
    static ROLE: RefCell<Role> = const { RefCell::new(Role::Nothing) };
}

pub(crate) fn with_role<T>(work: impl FnOnce(&mut Role) -> Result<T, Thrown>) -> Result<T, Thrown> {
    ROLE.with_borrow_mut(work)
}

/// The same for what plays an instance.
pub(crate) fn with_instance<T>(work: impl FnOnce(&mut cfork::Instance) -> Result<T, Thrown>) -> Result<T, Thrown> {
    with_role(|role| match role {
        Role::Instance(instance) => work(instance),
        Role::Stage(stage) => work(&mut stage.instance),
        _ => Err(wrong_role()),
    })
}

pub(crate) fn wrong_role() -> Thrown {
    Thrown::Because("this process is not at the right stage for that".into())
}

/// The version of Node-API that is used.
#[unsafe(no_mangle)]
pub extern "C" fn node_api_module_get_api_version_v1() -> i32 {
    8
}

/// Called by Node.js when it loads the addon.
///
/// # Safety
/// The arguments must be Node's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn napi_register_module_v1(env: RawEnv, exports: RawValue) -> RawValue {
    // SAFETY: Node calls this with a handle scope open, in the environment's thread.
    let (env, object) = unsafe { (Env::new(env), Value::new(exports)) };
    let methods: [(_, abi::Function); 27] = [
        (c"configure", template::configure),
        (c"threads", template::threads),
        (c"obstacles", template::obstacles),
        (c"fillHoles", template::fill_holes),
        (c"serve", template::serve),
        (c"exit", template::exit),
        (c"settle", template::settle),
        (c"stage", stage::stage),
        (c"cue", stage::cue),
        (c"heard", stage::heard),
        (c"unstage", stage::unstage),
        (c"differ", random::differ),
        (c"environment", instance::environment),
        (c"print", instance::print),
        (c"ready", instance::ready),
        (c"init_failed", instance::init_failed),
        (c"listen", bell::listen),
        (c"take", instance::take),
        (c"begin", instance::begin),
        (c"reply", instance::reply),
        (c"fail", instance::fail),
        (c"open", parts::open),
        (c"part", parts::part),
        (c"idle", parts::idle),
        (c"fifo", fifo::operate),
        (c"fifoWait", fifo::wait),
        (c"fifoForget", fifo::give_up),
    ];
    let given = methods.into_iter().try_for_each(|(name, function)| env.method(object, name, function));
    if given.is_ok() { exports } else { std::ptr::null_mut() }
}
