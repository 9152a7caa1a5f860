//! Links between the hosts, and what goes wrong with them and with the hosts.

use super::world::{Event, LIMITS, TIMING, World};
use shim::protocol::EndId;
use shim::protocol::{Attachment, Carried, Config, Input, Message, Node};
use std::time::Duration;
use xpucall::id::PuId;

#[derive(Default)]
pub struct Link {
    life: u64,
    stands: bool,
    held_until: Duration,
    last: [Duration; 2],
    /// Whether the node of each side (0: the head's) thinks that it stands.
    told: [bool; 2],
}

impl World {
    pub fn send(&mut self, host: usize, to: PuId, message: &Message, with: Option<Attachment>) {
        let up = host != 0;
        let index = if up { host } else { to.0 as usize };
        let bytes = message.encode().expect("every message fits");
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(message));
        let carried = with.map(|with| match with {
            Attachment::Lane(lane) => lane,
            Attachment::Carried(carried) => self.carried[&carried],
        });
        let delay = self.delay();
        let shares = self.hosts[index].shares;
        let link = &mut self.links[index];
        assert!(link.told[usize::from(up)], "PU {host} sends where it has no link");
        assert!(carried.is_none() || shares, "descriptors cannot go over the link of PU {index}");
        let way = usize::from(up);
        let when = (self.now + delay).max(link.last[way]).max(link.held_until);
        link.last[way] = when;
        let life = link.life;
        self.at(when, Event::Deliver { link: index, up, life, bytes, carried });
    }

    fn delay(&mut self) -> Duration {
        if !self.quiet && self.random.chance(3) { self.micros(500..40_000) } else { self.micros(2..400) }
    }

    pub fn deliver(&mut self, index: usize, up: bool, life: u64, bytes: &[u8], carried: Option<EndId>) {
        let link = &self.links[index];
        if link.life != life || !link.stands || !link.told[usize::from(!up)] {
            return;
        }
        let message = Message::decode(bytes).expect("what was sent can be read");
        let (host, from) = if up { (0, PuId(index as u8)) } else { (index, PuId::HEAD) };
        let carried = carried.map(|lane| {
            self.next_carried += 1;
            self.carried.insert(Carried(self.next_carried), lane);
            Carried(self.next_carried)
        });
        self.step(host, Input::Message { from, message, carried });
    }

    /// `by`: the side that knows already.
    pub fn break_link(&mut self, index: usize, by: Option<usize>, dead: bool) {
        let link = &mut self.links[index];
        if let Some(side) = by {
            link.told[side] = false;
        }
        if !std::mem::take(&mut link.stands) {
            return;
        }
        let (life, held) = (link.life, link.held_until);
        for side in [0, 1] {
            if by != Some(side) {
                // Sometimes nobody says anything until the next link stands.
                let soon = dead || self.quiet || !self.random.chance(15);
                let delay = if soon { self.micros(1..5_000) } else { Duration::from_secs(60) };
                let when = (self.now + delay).max(if dead { self.now } else { held });
                self.at(when, Event::Hear { link: index, side, life, dead });
            }
        }
        self.after(1_000..60_000, Event::Reconnect { link: index });
    }

    pub fn hear(&mut self, index: usize, side: usize, life: u64, dead: bool) {
        if self.links[index].life == life && !self.links[index].stands {
            self.tell_down(index, side, dead);
        }
    }

    fn tell_down(&mut self, index: usize, side: usize, dead: bool) {
        let host = if side == 0 { 0 } else { index };
        if std::mem::take(&mut self.links[index].told[side]) {
            let pu = if side == 0 { PuId(index as u8) } else { PuId::HEAD };
            self.step(host, Input::LinkDown { pu, dead: dead && side == 0 });
        }
    }

    pub fn reconnect(&mut self, index: usize) {
        let link = &self.links[index];
        let alive = self.hosts[0].node.is_some() && self.hosts[index].node.is_some();
        if link.stands || index == 0 {
            return;
        }
        if !alive || link.held_until > self.now {
            return self.after(5_000..50_000, Event::Reconnect { link: index });
        }
        // Whoever has not heard of the end of the last one hears of it before.
        self.tell_down(index, 0, false);
        self.tell_down(index, 1, false);
        let link = &mut self.links[index];
        link.life += 1;
        (link.stands, link.told, link.last) = (true, [true, true], [self.now; 2]);
        let shares = self.hosts[index].shares;
        self.step(0, Input::LinkUp { pu: PuId(index as u8), shares });
        self.step(index, Input::LinkUp { pu: PuId::HEAD, shares });
    }

    pub fn break_some_link(&mut self, index: usize) {
        self.say(|| format!("── the link to PU {index} breaks"));
        self.break_link(index, None, false);
    }

    pub fn hold_some_link(&mut self, index: usize) {
        let until = self.now + self.micros(1_000..600_000);
        self.say(|| format!("── the link to PU {index} is held until {until:?}"));
        self.links[index].held_until = until;
    }

    pub fn crash(&mut self, host: usize) {
        if self.hosts[host].node.take().is_none() {
            return;
        }
        self.say(|| format!("── PU {host} crashes"));
        self.hosts[host].life += 1;
        self.lose_processes(host);
        if host == 0 {
            self.oracle.term_over();
        }
        let dead = self.random.chance(50);
        let links = if host == 0 { 1..self.hosts.len() } else { host..host + 1 };
        for link in links {
            self.links[link].told[usize::from(host != 0)] = false;
            self.break_link(link, Some(usize::from(host != 0)), dead && host != 0);
        }
        self.after(1_000..500_000, Event::Restart { host });
    }

    pub fn restart(&mut self, host: usize) {
        if self.hosts[host].node.is_some() {
            return;
        }
        let config = Config { pu: PuId(host as u8), timing: TIMING, limits: LIMITS };
        let node = if host == 0 { Node::head(config, self.former.clone()) } else { Node::member(config) };
        self.hosts[host].node = Some(node);
        self.step(host, Input::Tick);
        let links = if host == 0 { 1..self.hosts.len() } else { host..host + 1 };
        for link in links {
            self.after(1..20_000, Event::Reconnect { link });
        }
        for _ in 0..2 {
            self.after(20_000..100_000, Event::Attach { host });
        }
    }

    /// Links carry everything again.
    pub fn heal(&mut self) {
        self.quiet = true;
        for index in 1..self.links.len() {
            self.links[index].held_until = self.now;
        }
    }
}
