//! Chance: rules whose ways are compared with a walk rule by rule, and texts that are no rules. `SEED=n` plays others.

use super::super::ruleset::{Act, Place, Ruleset};
use super::super::tables;
use super::*;

const CHAINS: [&str; 4] = ["OUTPUT", "A", "B", "C"];

struct Random(u64);

impl Random {
    fn seed() -> Self {
        Self(std::env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number but 0")))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// Rules whose chains call only later ones, so that they end.
    fn rules(&mut self) -> String {
        let mut text = "*nat\n:OUTPUT ACCEPT\n:A -\n:B -\n:C -\n".to_owned();
        for (number, chain) in CHAINS.iter().enumerate() {
            for _ in 0..self.below(5) + 1 {
                text += &format!("-A {chain}{} {}\n", self.questions(), self.act(number));
            }
        }
        text + "COMMIT\n"
    }

    fn questions(&mut self) -> String {
        let mut text = String::new();
        let protocol = self.one(&["tcp", "udp"]);
        for _ in 0..self.below(4) {
            let not = self.one(&["", "! "]);
            text += &match self.below(6) {
                0 => format!(" {not}-d 10.0.0.{}/{}", self.below(4), self.one(&["32", "31", "8"])),
                1 => format!(" {not}-s 10.0.0.{}/32", self.below(4)),
                2 => format!(" {not}-o {}", self.one(&["lo", "eth0"])),
                3 => format!(" -m owner {not}--uid-owner {}-{}", self.below(2), 1 + self.below(3)),
                4 => format!(" -m mark {not}--mark 0x{}/0x{}", self.below(4), self.one(&["3", "1", "ff"])),
                _ => format!(" -p {protocol} -m multiport {not}--dports {},{}:5", self.below(3), 1 + self.below(5)),
            };
        }
        text
    }

    fn act(&mut self, number: usize) -> String {
        match self.below(5) {
            0 => "-j RETURN".to_owned(),
            1 => "-j ACCEPT".to_owned(),
            2 if number < 3 => format!("-{} {}", self.one(&["j", "g"]), CHAINS[number + 1 + self.below(3 - number)]),
            _ => format!("-p tcp -j REDIRECT --to-ports {}", 1 + self.below(3)),
        }
    }

    fn first(&mut self) -> First<'static> {
        let protocol = if self.below(3) == 0 { Protocol::Udp } else { Protocol::Tcp };
        let at = |random: &mut Self, low| {
            SocketAddr::from(([10, 0, 0, random.below(5) as u8], low + random.below(7) as u16))
        };
        let (source, destination) = (at(self, 40000), at(self, 0));
        let user = self.below(5) as u32;
        let owner = Some(Owner { user, group: user });
        First {
            protocol,
            source,
            destination,
            owner,
            from: None,
            to: Some(self.one(&["lo", "eth0"])),
            mark: self.below(5) as u32,
        }
    }
}

/// As the kernel walks: rule by rule. None: the chain came to its end.
fn walk(rules: &Ruleset, chain: &str, first: &First<'_>) -> Option<Then> {
    let chain = rules.find("nat", chain).unwrap();
    for step in &rules.chains[chain].rules {
        if !step.when.iter().all(|condition| condition.holds(first)) {
            continue;
        }
        match step.act.as_ref().unwrap() {
            Act::End(then) => return Some(*then),
            Act::Return => return None,
            Act::Goto(to) => return walk(rules, to, first),
            Act::Jump(to) => match walk(rules, to, first) {
                None => {}
                decided => return decided,
            },
        }
    }
    None
}

#[test]
fn decisions_are_those_of_the_kernels_walk() {
    let mut random = Random::seed();
    let (mut captured, mut passed) = (0, 0);
    for _ in 0..400 {
        let text = random.rules();
        let rules = tables::parse(&text, Family::V4).unwrap();
        let redirects = read_tables(&text, Family::V4).unwrap();
        for _ in 0..50 {
            let first = random.first();
            let expected = walk(&rules, "OUTPUT", &first).unwrap_or(Then::Pass);
            assert_eq!(redirects.decide(Hook::Output, &first), expected, "{text}\n{first:?}\n{redirects:#?}");
            *(if expected == Then::Pass { &mut passed } else { &mut captured }) += 1;
        }
    }
    assert!(captured > 2000 && passed > 2000, "{captured} captured, {passed} not");
    assert!(tables::parse(ISTIO_V4, Family::V4).unwrap().chains.iter().any(|chain| chain.place == Place::Called));
}

#[test]
fn no_text_does_harm() {
    let mut random = Random::seed();
    for original in [ISTIO_V4, TPROXY_V4, ISTIO_NFT, TPROXY_NFT] {
        for _ in 0..150 {
            let mut bytes = original.as_bytes().to_vec();
            for _ in 0..random.below(6) + 1 {
                let at = random.below(bytes.len());
                match random.below(4) {
                    0 => bytes[at] = random.next() as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b" !/:-,\"0{}["[random.below(11)]),
                    _ => {
                        let end = (at + random.below(40)).min(bytes.len());
                        let again = bytes[at..end].to_vec();
                        bytes.splice(at..at, again);
                    }
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            for read in [read_tables(&text, Family::V4), read_nft(&text, &[])] {
                let _ =
                    read.map(|rules| rules.decide(Hook::Output, &random.first())).map_err(|error| error.to_string());
            }
        }
    }
}
