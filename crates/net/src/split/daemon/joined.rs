//! A network, as the daemon keeps it: its halves' filters and programs, and what there is to say of it.

use crate::netlink::set::Element;
use crate::redirect::Redirects;
use crate::split::behaviour::{self, RESERVED};
use crate::split::capture::Capture;
use crate::split::client::{HalfStatus, Status};
use crate::split::halves::{MakeError, Standing, Whole};
use crate::split::ports::{Change, Port, Table};
use crate::split::rules::{OWN, TABLE};
use crate::split::state::Memory;
use crate::split::{Half, plan};
use std::time::Duration;
use tracing::warn;

/// A network, as it is kept.
pub struct Joined {
    /// For the programs in the kernel; never 0, never given twice.
    pub id: u32,
    pub memory: Memory,
    pub halves: Vec<Option<Standing>>,
    pub table: Table,
    pub redirects: Option<(usize, Redirects)>,
}

impl Joined {
    pub fn whole<'a>(&'a self, claims: &'a [(Port, usize)]) -> Whole<'a> {
        let capture = self.redirects.as_ref().map(|(proxy, redirects)| Capture { redirects, proxy: *proxy });
        Whole { network: &self.memory.network, halves: &self.halves, claims, capture }
    }

    pub fn there(&self) -> Vec<usize> {
        self.whole(&[]).there()
    }

    /// Writes the filters of all halves that are there.
    pub fn filter(&self) -> Result<(), MakeError> {
        if !self.memory.network.is_split() {
            return Ok(());
        }
        let claims = self.table.claims();
        let whole = self.whole(&claims);
        (0..self.halves.len()).try_for_each(|number| {
            whole.filter(number, &self.memory.halves[number].was)?;
            whole.lead(number)
        })?;
        self.reserve();
        Ok(())
    }

    /// No half's kernel is to choose a port that another half has claimed by its number: the bind would fail.
    pub fn reserve(&self) {
        let claims = self.table.claims();
        for (number, half) in self.halves.iter().enumerate() {
            let Some(half) = half else { continue };
            let chosen = plan::chosen(number, self.halves.len());
            let others = claims.iter().filter(|(port, owner)| *owner != number && chosen.contains(&port.number));
            let was = self.memory.halves[number].was.iter().filter(|was| was.switch == RESERVED);
            let was = was.map(|was| was.value.clone()).filter(|value| !value.is_empty());
            let all: Vec<String> = was.chain(others.map(|(port, _)| port.number.to_string())).collect();
            if let Err(error) = half.place.visit(|| behaviour::set(RESERVED, &all.join(","))) {
                warn!(network = self.memory.network.name, half = number, "ports cannot be reserved: {error}");
            }
        }
    }

    /// Something has become of a half's devices: packets may enter where there is no program yet.
    pub fn look_around(&self, number: usize) {
        let Some(half) = &self.halves[number] else { return };
        // What cannot be heard is asked for all the same.
        let _ = half.news.wait(Duration::ZERO);
        if !self.memory.network.is_split() {
            return;
        }
        if let Err(error) = self.whole(&[]).lead(number) {
            warn!(network = self.memory.network.name, "{error}");
        }
    }

    /// Changes the sets of the halves, which they have where a sidecar's rules need them. One whose sets are not what they should be gets its whole filter anew.
    pub fn tell(&self, changes: &[Change]) {
        for (number, half) in self.halves.iter().enumerate().filter(|_| self.redirects.is_some()) {
            let Some(half) = half else { continue };
            let of_half: Vec<_> = changes.iter().filter(|change| change.half == number).collect();
            if of_half.is_empty() {
                continue;
            }
            let names: Vec<_> = of_half.iter().map(|change| set_of(number, change.of)).collect();
            let elements = of_half.iter().zip(&names).map(|(change, set)| element(change, set));
            if let Err(error) = half.filter.change_sets(TABLE, &elements.collect::<Vec<_>>()) {
                warn!(network = self.memory.network.name, half = number, "its ports are written anew: {error}");
                let claims = self.table.claims();
                if let Err(error) = self.whole(&claims).filter(number, &self.memory.halves[number].was) {
                    warn!(network = self.memory.network.name, "{error}");
                }
            }
        }
    }

    pub fn status(&self) -> Status {
        let network = &self.memory.network;
        let claims = self.table.claims();
        let half = |(number, half): (usize, &Half)| HalfStatus {
            pu: half.pu.clone(),
            there: self.halves[number].is_some(),
            ports: claims.iter().filter(|(_, owner)| *owner == number).map(|(port, _)| *port).collect(),
        };
        Status {
            name: network.name.clone(),
            addresses: network.addresses.clone(),
            uplink: network.uplink.clone(),
            halves: network.halves.iter().enumerate().map(half).collect(),
            proxy: self.redirects.as_ref().map(|(proxy, _)| network.halves[*proxy].pu.clone()),
            users: network.users.clone(),
        }
    }
}

fn set_of(half: usize, owner: usize) -> String {
    if half == owner { OWN.to_owned() } else { plan::set(owner) }
}

fn element<'a>(change: &Change, set: &'a str) -> Element<'a> {
    let mut key = vec![change.port.protocol.number(), 0, 0, 0];
    key.extend_from_slice(&change.port.number.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
    Element { set, key, there: change.there }
}
