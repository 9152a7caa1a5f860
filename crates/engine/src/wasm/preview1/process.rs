//! Arguments, clocks, randomness, waiting, and calls that there is no use for here.

#![expect(clippy::too_many_arguments, reason = "what a call takes is said by WASI")]

use super::descriptors::{What, right};
use super::memory::Memory;
use crate::files::{Answer, Errno};
use crate::wasm::console::Stream;
use crate::wasm::context::{Context, Strings};
use std::time::Duration;

/// Bytes of a subscription and of an event.
const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;
/// Subscriptions of one call, at most.
const MOST_SUBSCRIPTIONS: u32 = 4096;

fn put_strings(m: &mut Memory<'_>, strings: &Strings, pointers: u32, bytes: u32) -> Answer<()> {
    m.put(bytes, &strings.bytes)?;
    let mut table = Vec::with_capacity(strings.starts.len() * 4);
    // No overflow: the bytes were put below the end of memory just now.
    strings.starts.iter().for_each(|start| table.extend_from_slice(&(bytes + start).to_le_bytes()));
    m.put(pointers, &table)
}

fn put_sizes(m: &mut Memory<'_>, strings: &Strings, count: u32, bytes: u32) -> Answer<()> {
    m.put_u32(count, strings.starts.len() as u32)?;
    m.put_u32(bytes, strings.bytes.len() as u32)
}

pub fn args_get(c: &mut Context, m: &mut Memory<'_>, argv: u32, bytes: u32) -> Answer<()> {
    put_strings(m, &c.arguments, argv, bytes)
}

pub fn args_sizes_get(c: &mut Context, m: &mut Memory<'_>, count: u32, bytes: u32) -> Answer<()> {
    put_sizes(m, &c.arguments, count, bytes)
}

pub fn environ_get(c: &mut Context, m: &mut Memory<'_>, environ: u32, bytes: u32) -> Answer<()> {
    put_strings(m, &c.environment, environ, bytes)
}

pub fn environ_sizes_get(c: &mut Context, m: &mut Memory<'_>, count: u32, bytes: u32) -> Answer<()> {
    put_sizes(m, &c.environment, count, bytes)
}

pub fn clock_res_get(_: &mut Context, m: &mut Memory<'_>, clock: u32, result: u32) -> Answer<()> {
    if clock > 3 {
        return Err(Errno::Invalid.into());
    }
    m.put_u64(result, Context::resolution())
}

/// 0 real time, 1 monotonic, 2 the process, 3 the thread.
fn read_clock(c: &Context, clock: u32) -> Result<u64, Errno> {
    match clock {
        0 => Ok(c.wall_clock()),
        1 => Ok(c.monotonic_clock()),
        2 | 3 => Ok(c.run_clock()),
        _ => Err(Errno::Invalid),
    }
}

pub fn clock_time_get(c: &mut Context, m: &mut Memory<'_>, clock: u32, _: u64, result: u32) -> Answer<()> {
    let now = read_clock(c, clock)?;
    m.put_u64(result, now)
}

pub fn random_get(c: &mut Context, m: &mut Memory<'_>, buffer: u32, len: u32) -> Answer<()> {
    c.random(m.bytes_mut(buffer, len)?)
}

pub fn sched_yield(_: &mut Context, _: &mut Memory<'_>) -> Answer<()> {
    Ok(())
}

/// There are no signals.
pub fn proc_raise(_: &mut Context, _: &mut Memory<'_>, _: u32) -> Answer<()> {
    Err(Errno::NotSupported.into())
}

fn no_socket(c: &Context, fd: u32) -> Answer<()> {
    c.descriptors.get(fd)?;
    Err(Errno::NotSocket.into())
}

pub fn sock_accept(c: &mut Context, _: &mut Memory<'_>, fd: u32, _: u32, _: u32) -> Answer<()> {
    no_socket(c, fd)
}

pub fn sock_recv(c: &mut Context, _: &mut Memory<'_>, fd: u32, _: u32, _: u32, _: u32, _: u32, _: u32) -> Answer<()> {
    no_socket(c, fd)
}

pub fn sock_send(c: &mut Context, _: &mut Memory<'_>, fd: u32, _: u32, _: u32, _: u32, _: u32) -> Answer<()> {
    no_socket(c, fd)
}

pub fn sock_shutdown(c: &mut Context, _: &mut Memory<'_>, fd: u32, _: u32) -> Answer<()> {
    no_socket(c, fd)
}

/// What one subscription waits for.
enum Wish {
    /// Nanoseconds from now.
    After(u64),
    /// Bytes that can be moved at once, as all can that can at all.
    Ready(u64),
    /// What somebody has yet to write.
    Input,
    Never(Errno),
}

fn wish(c: &Context, m: &Memory<'_>, at: u32) -> Result<(u64, u8, Wish), Errno> {
    let user = m.u64(at, 0)?;
    let kind = m.bytes(at.checked_add(8).ok_or(Errno::Fault)?, 1)?[0];
    let wish = match kind {
        0 => {
            let (clock, time, flags) = (m.u32(at, 16)?, m.u64(at, 24)?, m.u16(at, 40)?);
            match read_clock(c, clock) {
                Ok(now) if flags & 1 != 0 => Wish::After(time.saturating_sub(now)),
                Ok(_) => Wish::After(time),
                Err(errno) => Wish::Never(errno),
            }
        }
        1 | 2 => ready(c, m.u32(at, 16)?, kind == 1).unwrap_or_else(Wish::Never),
        _ => return Err(Errno::Invalid),
    };
    Ok((user, kind, wish))
}

/// Whether something can be read or written at once, and how much.
fn ready(c: &Context, fd: u32, to_read: bool) -> Result<Wish, Errno> {
    let descriptor = c.descriptors.with(fd, right::POLL | if to_read { right::READ } else { right::WRITE })?;
    Ok(Wish::Ready(match (descriptor.what, &c.console) {
        (What::Stdin, Some(console)) if !console.wait(Stream::Input, Some(Duration::ZERO)) => return Ok(Wish::Input),
        (What::Stdin, Some(_)) => 1,
        (What::Stdin, None) => (c.stdin.len() - c.stdin_at) as u64,
        (What::Node(id), _) if to_read => c.files.file(id)?.size().saturating_sub(descriptor.offset),
        _ => 1 << 16,
    }))
}

pub fn poll_oneoff(c: &mut Context, m: &mut Memory<'_>, input: u32, events: u32, count: u32, to: u32) -> Answer<()> {
    if count == 0 || count > MOST_SUBSCRIPTIONS {
        return Err(Errno::Invalid.into());
    }
    m.span(events, count * EVENT)?;
    m.span(input, count * SUBSCRIPTION)?;
    let wishes = (0..count).map(|number| wish(c, m, input + number * SUBSCRIPTION)).collect::<Result<Vec<_>, _>>()?;
    let first = wishes.iter().filter_map(|(_, _, wish)| if let Wish::After(time) = wish { Some(*time) } else { None });
    let first = first.min();
    let at_once = wishes.iter().any(|(_, _, wish)| matches!(wish, Wish::Ready(_) | Wish::Never(_)));
    let for_input = wishes.iter().any(|(_, _, wish)| matches!(wish, Wish::Input));
    let has_come = match (&c.console, first) {
        _ if at_once => false,
        (Some(console), first) if for_input => console.wait(Stream::Input, first.map(Duration::from_nanos)),
        (_, Some(first)) => {
            c.wait(first);
            false
        }
        (_, None) => false,
    };
    let waited = if at_once || has_come { 0 } else { first.unwrap_or(0) };
    let mut told = 0;
    for (user, kind, wish) in wishes {
        let (errno, bytes) = match wish {
            Wish::After(time) if time > waited => continue,
            Wish::After(_) => (0, 0),
            Wish::Input if !has_come => continue,
            Wish::Input => (0, 1),
            Wish::Ready(bytes) => (0, bytes),
            Wish::Never(errno) => (errno as u16, 0),
        };
        let mut event = [0; EVENT as usize];
        event[..8].copy_from_slice(&user.to_le_bytes());
        event[8..10].copy_from_slice(&errno.to_le_bytes());
        event[10] = kind;
        event[16..24].copy_from_slice(&bytes.to_le_bytes());
        m.put(events + told * EVENT, &event)?;
        told += 1;
    }
    m.put_u32(to, told)
}
