//! The text of `iptables-save` and `ip6tables-save`, of the legacy tools and of those on nf_tables: both write the same.
//!
//! ```text
//! *nat                                          a table
//! :ISTIO_OUTPUT - [0:0]                         a chain; its policy, if the kernel calls it
//! -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -j NAME     a rule, perhaps with its counters before it
//! COMMIT
//! ```

mod target;
mod words;

use super::ruleset::{Place, Ruleset, Step, state};
use super::{Cidr, Condition, Family, Hook, On, Protocol, Range, ReadError, Redirects, Refusal, TEXT_LIMIT, Why, flow};
use words::Words;

/// What the rules of one family say.
pub fn read(text: &str, family: Family) -> Result<Redirects, ReadError> {
    flow::follow(parse(text, family)?)
}

pub(super) fn parse(text: &str, family: Family) -> Result<Ruleset, ReadError> {
    if text.len() > TEXT_LIMIT {
        return Err(ReadError::TooLong);
    }
    let mut rules = Ruleset::default();
    let mut table = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let wrong = ReadError::Line(number + 1);
        match (line.chars().next(), table) {
            (None | Some('#'), _) => {}
            (Some('*'), None) => table = Some(&line[1..]),
            (Some(':'), Some(table)) => chain(&mut rules, table, line).ok_or(wrong)?,
            (Some('-' | '['), Some(table)) => rule(&mut rules, table, line, family).ok_or(wrong)?,
            _ if line == "COMMIT" && table.is_some() => table = None,
            _ => return Err(wrong),
        }
    }
    if table.is_some() { Err(ReadError::Cut) } else { Ok(rules) }
}

/// `:NAME POLICY [PACKETS:BYTES]`
fn chain(rules: &mut Ruleset, table: &str, line: &str) -> Option<()> {
    let mut words = line[1..].split_whitespace();
    let (name, policy) = (words.next()?, words.next()?);
    match policy {
        "-" | "ACCEPT" => {}
        _ => rules.refused.push(Refusal { rule: line.to_owned(), why: Why::Drops }),
    }
    let place = match (policy, table, name) {
        ("-", ..) => Place::Called,
        (_, "nat" | "mangle" | "raw", "OUTPUT") => Place::Base(Hook::Output),
        (_, "nat" | "mangle" | "raw", "PREROUTING") => Place::Base(Hook::Prerouting),
        _ => Place::Other(format!("{table} {name}")),
    };
    rules.chain(table, name, place);
    Some(())
}

/// `[PACKETS:BYTES] -A CHAIN …`
fn rule(rules: &mut Ruleset, table: &str, line: &str, family: Family) -> Option<()> {
    // Before it, perhaps, how many packets and bytes it has seen.
    let line = if line.starts_with('[') { line.split_once("] ")?.1 } else { line };
    let rest = line.strip_prefix("-A ")?;
    let mut words = Words::new(rest);
    let chain = rules.find(table, &words.next()?)?;
    let read = Reader { words, not: false, module: String::new(), step: Step::new(line, Some(family)) }.read();
    rules.take(chain, line, read);
    Some(())
}

/// In the middle of a rule.
struct Reader<'a> {
    words: Words<'a>,
    /// A `!` came before.
    not: bool,
    /// The extension named last: two of them know `--mark`.
    module: String,
    step: Step,
}

impl Reader<'_> {
    fn read(mut self) -> Result<Step, Why> {
        while let Some(word) = self.words.next() {
            match word.as_str() {
                "!" => {
                    self.not = true;
                    continue;
                }
                "-j" | "-g" => target::read(&mut self, &word)?,
                _ => self.condition(&word)?,
            }
            if std::mem::take(&mut self.not) && matches!(word.as_str(), "-m" | "-j" | "-g") {
                return Err(Why::Unknown(format!("! before {word}")));
            }
        }
        if self.not { Err(Why::Value("!".to_owned())) } else { Ok(self.step) }
    }

    fn condition(&mut self, option: &str) -> Result<(), Why> {
        let on = match option {
            "-m" => return self.extension(),
            "--comment" => return self.value(option).map(drop),
            "--ctstate" | "--state" => return self.state(option),
            "--mark" if self.module == "connmark" => return self.connection_mark(),
            "-p" => On::Protocol(vec![protocol(&self.value(option)?)?]),
            "-s" => On::Source(self.cidrs(option)?),
            "-d" => On::Destination(self.cidrs(option)?),
            "-i" => On::From(self.device(option)?),
            "-o" => On::To(self.device(option)?),
            "--sport" | "--sports" => On::SourcePort(self.ranges(option, ':')?),
            "--dport" | "--dports" => On::DestinationPort(self.ranges(option, ':')?),
            "--uid-owner" => On::User(self.owners(option)?),
            "--gid-owner" => On::Group(self.owners(option)?),
            "--mark" => {
                let (value, mask) = self.mark(option)?;
                On::Mark { value, mask }
            }
            _ => return Err(Why::Unknown(option.to_owned())),
        };
        self.step.ask(Condition { not: self.not, on });
        Ok(())
    }

    fn extension(&mut self) -> Result<(), Why> {
        self.module = self.value("-m")?;
        match self.module.as_str() {
            "tcp" | "udp" | "multiport" | "owner" | "conntrack" | "state" | "mark" | "connmark" | "comment" => Ok(()),
            other => Err(Why::Unknown(format!("-m {other}"))),
        }
    }

    fn value(&mut self, option: &str) -> Result<String, Why> {
        self.words.next().ok_or_else(|| Why::Value(option.to_owned()))
    }

    /// What `parse` makes of the option's value.
    fn parsed<T>(&mut self, option: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Why> {
        parse(&self.value(option)?).ok_or_else(|| Why::Value(option.to_owned()))
    }

    fn cidrs(&mut self, option: &str) -> Result<Vec<Cidr>, Why> {
        let family = self.step.family;
        self.parsed(option, |text| {
            Cidr::parse(text).filter(|cidr| family == Some(if cidr.is_ipv4() { Family::V4 } else { Family::V6 }))
        })
        .map(|cidr| vec![cidr])
    }

    fn device(&mut self, option: &str) -> Result<String, Why> {
        // A plus at the end means all devices that begin so.
        self.parsed(option, |text| (!text.is_empty() && !text.ends_with('+')).then(|| text.to_owned()))
    }

    fn ranges<T>(&mut self, option: &str, between: char) -> Result<Vec<Range<T>>, Why>
    where
        T: std::str::FromStr + Copy + PartialOrd,
    {
        self.parsed(option, |text| text.split(',').map(|part| range(part, between)).collect())
    }

    fn owners(&mut self, option: &str) -> Result<Vec<Range<u32>>, Why> {
        let text = self.value(option)?;
        if text.starts_with(|first: char| !first.is_ascii_digit()) {
            return Err(Why::Name);
        }
        Ok(vec![range(&text, '-').ok_or_else(|| Why::Value(option.to_owned()))?])
    }

    fn state(&mut self, option: &str) -> Result<(), Why> {
        let bits =
            self.parsed(option, |text| text.split(',').map(state::bit).try_fold(0, |bits, bit| Some(bits | bit?)))?;
        self.step.ask_state(bits, self.not);
        Ok(())
    }

    fn connection_mark(&mut self) -> Result<(), Why> {
        let (value, _) = self.mark("--mark")?;
        self.step.ask_connection_mark(value, self.not);
        Ok(())
    }

    /// `VALUE` or `VALUE/MASK`.
    fn mark(&mut self, option: &str) -> Result<(u32, u32), Why> {
        self.parsed(option, |text| match text.split_once('/') {
            None => Some((number(text)?, u32::MAX)),
            Some((value, mask)) => Some((number(value)?, number(mask)?)),
        })
    }
}

fn protocol(name: &str) -> Result<Protocol, Why> {
    match name {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        other => Err(Why::Unknown(format!("-p {other}"))),
    }
}

/// One number, or two with `between` between.
fn range<T: std::str::FromStr + Copy + PartialOrd>(text: &str, between: char) -> Option<Range<T>> {
    let (low, high) = text.split_once(between).unwrap_or((text, text));
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high).then_some((low, high))
}

/// Decimal, or hexadecimal with `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
