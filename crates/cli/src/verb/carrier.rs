//! What carries the words between `lichen pier` and `lichen join`: the TCP link itself, or a fabric beside it.
//!
//! The pier says which, in the link's first message: a provider's name, or nothing. Both then do the same.

use anyhow::{Context, bail};
use interconnect::link::Link;
use interconnect::link::fabric::{Fabric, Provider};
use interconnect::link::tcp::Tcp;
use rustix::event::{PollFd, PollFlags, poll};
use std::time::{Duration, Instant};

/// How long the pier may take to say it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pier's side.
pub fn choose(mut link: Tcp, provider: Option<Provider>) -> anyhow::Result<Box<dyn Link>> {
    link.send(provider.map_or("", Provider::name).as_bytes()).context("the other machine is gone")?;
    carry(link, provider)
}

/// The other side.
pub fn follow(mut link: Tcp) -> anyhow::Result<Box<dyn Link>> {
    let (mut message, begun) = (Vec::new(), Instant::now());
    while !link.receive(&mut message, &mut Vec::new()).context("the node is gone")? {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        if left.is_zero() {
            bail!("the node does not say what carries the link");
        }
        if link.arm() {
            let timeout = left.try_into().context("no time limit")?;
            let _ = poll(&mut [PollFd::from_borrowed_fd(link.poll_fd(), PollFlags::IN)], Some(&timeout));
        }
    }
    if message.is_empty() {
        return carry(link, None);
    }
    let name = String::from_utf8_lossy(&message);
    let provider = Provider::of(&name).with_context(|| format!("the node asks for a fabric {name:?}"))?;
    carry(link, Some(provider))
}

fn carry(link: Tcp, provider: Option<Provider>) -> anyhow::Result<Box<dyn Link>> {
    let Some(provider) = provider else { return Ok(Box::new(link)) };
    // The device by which the other machine is reached.
    let address = link.local_address().context("the other machine is gone")?.ip();
    Ok(Box::new(Fabric::over(Box::new(link), provider, Some(address))?))
}
