//! Functions of a template: from its configuration to its fork point, and into its children.

use crate::abi::{self, Info, RawEnv, RawValue};
use crate::value::{Env, Thrown, Value, because, call};
use crate::{Role, with_role, wrong_role};
use cfork::descriptors;
use cfork::forkpoint::{self, ForkPoint, ServeError};

/// A template before its fork point.
pub struct Template {
    point: ForkPoint,
    /// What Node.js had open before anybody else could: its event loops, which a child makes anew.
    own: Vec<descriptors::Foreign>,
}

/// `configure(): string`
pub unsafe extern "C" fn configure(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, []: [Value; 0]| {
        // SAFETY: the worker starts a template with its control socket there; the second time fails on the closed one.
        let (point, config) = unsafe { ForkPoint::open() }.map_err(|e| because("no worker at descriptor 3")(&e))?;
        let stock = descriptors::take_stock(&[cfork::protocol::CONTROL]);
        let own = stock.map_err(|e| because("the open descriptors cannot be listed")(&e))?.foreign;
        with_role(|role| {
            *role = Role::Template(Template { point, own });
            env.text(&config)
        })
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

/// `threads(): number`
pub unsafe extern "C" fn threads(env: RawEnv, info: Info) -> RawValue {
    // SAFETY: Node passes its own.
    unsafe { call(env, info, |env, []| env.number(forkpoint::threads().into())) }
}

/// `obstacles(): string[]`
pub unsafe extern "C" fn obstacles(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, []: [Value; 0]| {
        let obstacles = with_role(|role| {
            let Role::Template(template) = role else { return Err(wrong_role()) };
            template.obstacles().map_err(|e| because("what is open cannot be listed")(&e))
        })?;
        let texts = obstacles.iter().map(|text| env.text(text.as_bytes())).collect::<Result<Vec<_>, _>>()?;
        env.list_of(&texts)
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

impl Template {
    /// What parent and child could not share. What Node.js itself had open from the start is none of it: its children put
    /// `/dev/null` in its place, and make their own.
    fn obstacles(&mut self) -> std::io::Result<Vec<String>> {
        let stock = self.point.take_stock(&[])?;
        let foreign = stock.foreign.iter().filter(|open| !self.own.contains(open)).map(|open| open.what.clone());
        let shared = cfork::memory::shared()?;
        let memory = shared.iter().map(|area| format!("memory shared with other processes ({})", area.name));
        Ok(foreign.chain(memory).collect())
    }
}

/// `fillHoles()`
pub unsafe extern "C" fn fill_holes(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, []: [Value; 0]| {
        cfork::memory::fill_holes();
        env.undefined()
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

/// `serve(report: string): boolean`: in a child, whether somebody waits for it already.
pub unsafe extern "C" fn serve(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, [report]: [Value; 1]| {
        let role = with_role(|role| Ok(std::mem::replace(role, Role::Nothing)))?;
        let Role::Template(Template { point, .. }) = role else { return Err(wrong_role()) };
        let event_loop = event_loop(env)?;
        cfork::memory::let_children_have_all().map_err(|e| because("the heap cannot be had by children")(&e))?;
        env.with_bytes(report, |report| point.ready(report))?.map_err(|e| because("the worker cannot be told")(&e))?;
        // SAFETY: Node's other threads compile and collect garbage beside this one, which --single-threaded has ended, or
        // are libuv's pool, which a child makes anew. Threads of the function would have made the template report itself as
        // not forkable, and the worker does not fork from such.
        match unsafe { point.serve() } {
            Ok(newborn) => {
                // SAFETY: this is the child, in the thread that runs the loop, outside of any callback of it.
                let failed = unsafe { abi::uv_loop_fork(event_loop) };
                if failed != 0 {
                    return Err(Thrown::Because(format!("the event loop cannot be made anew ({failed})")));
                }
                catch_up(event_loop);
                // The template is there as well, so that JavaScript knows; but a slot has folders of its own.
                rustix::process::chdir(cfork::protocol::TASK_ROOT)
                    .map_err(|e| because("the folder of the code")(&e))?;
                let wanted = newborn.is_wanted();
                with_role(|role| {
                    *role = Role::Newborn(newborn);
                    Ok(())
                })?;
                env.truth(wanted)
            }
            Err(ServeError::Gone) => os::process::exit_now(0),
            Err(error) => Err(Thrown::Because(error.to_string())),
        }
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

/// `settle(): string`: what the child is to be, once it is told.
pub unsafe extern "C" fn settle(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, []: [Value; 0]| {
        let role = with_role(|role| Ok(std::mem::replace(role, Role::Nothing)))?;
        let Role::Newborn(newborn) = role else { return Err(wrong_role()) };
        let ahead = newborn.is_ahead();
        let child = newborn.settle();
        if ahead {
            catch_up(event_loop(env)?);
        }
        with_role(|role| {
            *role = Role::Instance(child.instance);
            Ok(())
        })?;
        env.text(&child.config)
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

fn event_loop(env: Env) -> Result<*mut std::ffi::c_void, Thrown> {
    let mut event_loop = std::ptr::null_mut();
    // SAFETY: the environment is alive, and the result is ours to be written.
    env.check(unsafe { abi::napi_get_uv_event_loop(env.raw(), &mut event_loop) })?;
    Ok(event_loop)
}

/// Its time has stood still while a process waited.
fn catch_up(event_loop: *mut std::ffi::c_void) {
    // SAFETY: the environment's own, in the thread that runs it.
    unsafe { abi::uv_update_time(event_loop) };
}

/// `exit(status: number): never`. Node's own way out waits for threads that a child does not have.
pub unsafe extern "C" fn exit(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, [status]: [Value; 1]| {
        let status = env.count(status)?;
        os::process::exit_now((status & 0xff) as i32)
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}
