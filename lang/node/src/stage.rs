//! A stage for rehearsals: a channel from this process to itself, so that a template can go through all that its children
//! will do, down to the bell; and a child that waits for its function as well.

use crate::abi::{Info, RawEnv, RawValue};
use crate::bell;
use crate::value::{Env, Value, because, call};
use crate::{Role, with_role, wrong_role};
use cfork::Instance;
use cfork::invocation::{INVOKE, Invocation, REPLY, Started};
use interconnect::channel::{Channel, Sender};

const BODY_MAX: usize = 64 * 1024;

/// A template, or a child that waits, and plays an instance.
pub struct Stage {
    pub instance: Instance,
    actor: Role,
    host: Channel,
}

/// `stage()`: from now on, until `unstage`, this process is an instance as well.
pub unsafe extern "C" fn stage(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, []: [Value; 0]| {
        let (host, guest) = Channel::create(BODY_MAX).map_err(|e| because("a channel to itself")(&e))?;
        let guest = Channel::attach(&guest.region, guest.down, guest.up);
        let instance = Instance::new(guest.map_err(|e| because("a channel to itself")(&e))?, Started::default());
        with_role(|role| match std::mem::replace(role, Role::Nothing) {
            actor @ (Role::Template(_) | Role::Newborn(_)) => {
                *role = Role::Stage(Box::new(Stage { instance, actor, host }));
                env.undefined()
            }
            _ => Err(wrong_role()),
        })
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

/// `cue(event: string)`: an invocation, as the gateway sends it.
pub unsafe extern "C" fn cue(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, [event]: [Value; 1]| {
        env.with_bytes(event, |event| {
            with_role(|role| {
                let Role::Stage(stage) = role else { return Err(wrong_role()) };
                send(&mut stage.host.sender, event).map_err(|e| because("the event")(&e))
            })
        })??;
        env.undefined()
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

fn send(sender: &mut Sender, event: &[u8]) -> Result<(), interconnect::channel::SendError> {
    let head = Invocation { request_id: "rehearsal", function_arn: "arn", ..Invocation::default() };
    sender.send(INVOKE, &head.encode(), event)
}

/// `heard(): boolean`: whether an invocation was answered since it was last asked.
pub unsafe extern "C" fn heard(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, []: [Value; 0]| {
        let heard = with_role(|role| {
            let Role::Stage(stage) = role else { return Err(wrong_role()) };
            let mut heard = false;
            while let Some(message) = stage.host.receiver.receive().map_err(|e| because("the answer")(&e))? {
                heard |= message.kind() == REPLY;
            }
            Ok(heard)
        })?;
        env.truth(heard)
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

/// `unstage()`: the rehearsal is over.
pub unsafe extern "C" fn unstage(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, []: [Value; 0]| {
        bell::take_down();
        with_role(|role| match std::mem::replace(role, Role::Nothing) {
            Role::Stage(stage) => {
                *role = stage.actor;
                env.undefined()
            }
            _ => Err(wrong_role()),
        })
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}
