//! Packet filters and address translation: nf_tables.
//!
//! A [`Table`] is written down whole and installed in one transaction. One that is *owned* belongs to the socket by which it
//! was installed: the kernel removes it with the last descriptor of that socket, and no other program can change it
//! (Linux 5.12). Any other stays until it is removed.

use super::route::Prefix;
use super::{ANSWERED, LISTING, Message, NEW, Socket, attributes, nest, put, text, untext};
use std::io;
use std::net::Ipv4Addr;

pub(super) const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES << 8) as u16;
const NEW_TABLE: u16 = SUBSYSTEM | libc::NFT_MSG_NEWTABLE as u16;
const GET_TABLE: u16 = SUBSYSTEM | libc::NFT_MSG_GETTABLE as u16;
const REMOVE_TABLE: u16 = SUBSYSTEM | libc::NFT_MSG_DELTABLE as u16;
const NEW_CHAIN: u16 = SUBSYSTEM | libc::NFT_MSG_NEWCHAIN as u16;
const GET_CHAIN: u16 = SUBSYSTEM | libc::NFT_MSG_GETCHAIN as u16;
const NEW_RULE: u16 = SUBSYSTEM | libc::NFT_MSG_NEWRULE as u16;
const BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
const BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;

/// The family of tables that are for IPv4 and IPv6.
pub(super) const INET: u8 = 1;
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_OWNED: u32 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
/// The one register that rules here use.
const REGISTER: u32 = libc::NFT_REG_1 as u32;
const CT_INVALID: u32 = 1;
const CT_ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const FIB_DESTINATION: u32 = 2;
const FIB_ADDRESS_TYPE: u32 = 3;
const ICMP_UNREACHABLE: u32 = 0;
const TCP_RESET: u32 = 1;
const ADMINISTRATIVELY_PROHIBITED: u8 = 13;

/// Where in a packet's way a chain stands, and how early there.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// Before anything else is known of the packet.
    Early,
    /// Before it is given to this host.
    Input,
    /// Before it is passed on.
    Forward,
    /// Before it leaves, where its source is translated.
    SourceTranslation,
}

impl Hook {
    fn number_priority_type(self) -> (i32, i32, &'static str) {
        match self {
            Self::Early => (libc::NF_INET_PRE_ROUTING, libc::NF_IP_PRI_RAW, "filter"),
            Self::Input => (libc::NF_INET_LOCAL_IN, libc::NF_IP_PRI_FILTER, "filter"),
            Self::Forward => (libc::NF_INET_FORWARD, libc::NF_IP_PRI_FILTER, "filter"),
            Self::SourceTranslation => (libc::NF_INET_POST_ROUTING, libc::NF_IP_PRI_NAT_SRC, "nat"),
        }
    }
}

/// A table for IPv4, under construction.
#[derive(Debug)]
pub struct Table {
    name: String,
    messages: Vec<Message>,
}

/// What a rule asks of a packet, under construction. The verdict comes last.
#[derive(Clone, Debug, Default)]
pub struct Rule(Vec<u8>);

fn header(family: i32, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family as u8, 0, high, low]
}

fn ipv4() -> [u8; 4] {
    header(libc::AF_INET, 0)
}

pub(super) fn begin() -> Message {
    Message::new(BATCH_BEGIN, 0, &header(libc::AF_UNSPEC, libc::NFNL_SUBSYS_NFTABLES as u16))
}

pub(super) fn end() -> Message {
    Message::new(BATCH_END, 0, &header(libc::AF_UNSPEC, libc::NFNL_SUBSYS_NFTABLES as u16))
}

impl Table {
    /// A table that must not be there yet.
    pub fn owned(name: &str) -> Self {
        let flags = TABLE_OWNED.to_be_bytes();
        let table = Message::new(NEW_TABLE, NEW | ANSWERED, &ipv4()).with(TABLE_NAME, &text(name));
        Self { name: name.to_owned(), messages: vec![begin(), table.with(TABLE_FLAGS, &flags)] }
    }

    /// A table that stays, in the place of one that may have stayed.
    pub fn lasting(name: &str) -> Self {
        let table = |kind, flags| Message::new(kind, flags, &ipv4()).with(TABLE_NAME, &text(name));
        let (some, none) = (table(NEW_TABLE, libc::NLM_F_CREATE as u16), table(REMOVE_TABLE, 0));
        Self { name: name.to_owned(), messages: vec![begin(), some, none, table(NEW_TABLE, NEW | ANSWERED)] }
    }

    /// Adds a chain: what none of its rules decides passes, or is dropped.
    pub fn chain(mut self, name: &str, hook: Hook, pass: bool, rules: impl IntoIterator<Item = Rule>) -> Self {
        let (number, priority, kind) = hook.number_priority_type();
        let chain = Message::new(NEW_CHAIN, NEW, &ipv4())
            .with(CHAIN_TABLE, &text(&self.name))
            .with(CHAIN_NAME, &text(name))
            .with_nested(CHAIN_HOOK, |hook| {
                put(hook, HOOK_NUMBER, &number.to_be_bytes());
                put(hook, HOOK_PRIORITY, &priority.to_be_bytes());
            })
            .with(CHAIN_POLICY, &u32::from(pass).to_be_bytes())
            .with(CHAIN_TYPE, &text(kind));
        self.messages.push(chain);
        for rule in rules {
            let rule = Message::new(NEW_RULE, NEW & !(libc::NLM_F_EXCL as u16) | libc::NLM_F_APPEND as u16, &ipv4())
                .with(RULE_TABLE, &text(&self.name))
                .with(RULE_CHAIN, &text(name))
                .with_nested(RULE_EXPRESSIONS, |list| list.extend_from_slice(&rule.0));
            self.messages.push(rule);
        }
        self
    }

    pub fn install(mut self, socket: &Socket) -> io::Result<()> {
        self.messages.push(end());
        socket.ask(self.messages)
    }
}

impl Rule {
    fn expression(mut self, name: &str, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        nest(&mut self.0, LIST_ELEMENT, |element| {
            put(element, EXPRESSION_NAME, &text(name));
            nest(element, EXPRESSION_DATA, fill);
        });
        self
    }

    fn load_meta(self, key: i32) -> Self {
        self.expression("meta", |data| {
            put(data, 1, &REGISTER.to_be_bytes());
            put(data, 2, &key.to_be_bytes());
        })
    }

    /// Loads bytes of a header: 1 is IP's, 2 is that of what IP carries.
    fn load_header(self, header: u32, offset: u32, len: u32) -> Self {
        self.expression("payload", |data| {
            put(data, 1, &REGISTER.to_be_bytes());
            put(data, 2, &header.to_be_bytes());
            put(data, 3, &offset.to_be_bytes());
            put(data, 4, &len.to_be_bytes());
        })
    }

    fn mask(self, mask: &[u8]) -> Self {
        self.expression("bitwise", |data| {
            put(data, 1, &REGISTER.to_be_bytes());
            put(data, 2, &REGISTER.to_be_bytes());
            put(data, 3, &(mask.len() as u32).to_be_bytes());
            nest(data, 4, |value| put(value, DATA_VALUE, mask));
            nest(data, 5, |value| put(value, DATA_VALUE, &[0; 4][..mask.len()]));
        })
    }

    fn compare(self, equal: bool, value: &[u8]) -> Self {
        self.expression("cmp", |data| {
            put(data, 1, &REGISTER.to_be_bytes());
            put(data, 2, &u32::from(!equal).to_be_bytes());
            nest(data, 3, |wrapped| put(wrapped, DATA_VALUE, value));
        })
    }

    fn compare_name(self, equal: bool, name: &str) -> Self {
        let mut padded = [0; libc::IFNAMSIZ];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        self.compare(equal, &padded)
    }

    /// It came by this device.
    pub fn entering_by(self, name: &str) -> Self {
        self.load_meta(libc::NFT_META_IIFNAME).compare_name(true, name)
    }

    /// It would leave by another device.
    pub fn not_leaving_by(self, name: &str) -> Self {
        self.load_meta(libc::NFT_META_OIFNAME).compare_name(false, name)
    }

    /// It comes from there.
    pub fn source(self, address: Ipv4Addr) -> Self {
        self.load_header(1, 12, 4).compare(true, &address.octets())
    }

    /// It goes there.
    pub fn destination(self, prefix: Prefix) -> Self {
        let network = prefix.address.to_bits() & prefix.mask();
        self.load_header(1, 16, 4).mask(&prefix.mask().to_be_bytes()).compare(true, &network.to_be_bytes())
    }

    /// It goes to an address of this host, whichever that is at the time.
    pub fn destined_here(self) -> Self {
        let loaded = self.expression("fib", |data| {
            put(data, 1, &REGISTER.to_be_bytes());
            put(data, 2, &FIB_ADDRESS_TYPE.to_be_bytes());
            put(data, 3, &FIB_DESTINATION.to_be_bytes());
        });
        loaded.compare(true, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// It is of this protocol (`libc::IPPROTO_*`).
    pub fn protocol(self, protocol: i32) -> Self {
        self.load_meta(libc::NFT_META_L4PROTO).compare(true, &[protocol as u8])
    }

    /// It goes to this port. To be asked after the protocol, TCP or UDP.
    pub fn port(self, port: u16) -> Self {
        self.load_header(2, 2, 2).compare(true, &port.to_be_bytes())
    }

    /// It belongs to a conversation that has begun, or tells of one.
    pub fn answering(self) -> Self {
        self.in_state(CT_ESTABLISHED_OR_RELATED)
    }

    /// It belongs to no conversation, and begins none: its source would not be translated.
    pub fn astray(self) -> Self {
        self.in_state(CT_INVALID)
    }

    fn in_state(self, states: u32) -> Self {
        let loaded = self.expression("ct", |data| {
            put(data, 1, &REGISTER.to_be_bytes());
            put(data, 2, &libc::NFT_CT_STATE.to_be_bytes());
        });
        loaded.mask(&states.to_ne_bytes()).compare(false, &[0; 4])
    }

    fn verdict(self, code: i32) -> Self {
        self.expression("immediate", |data| {
            put(data, 1, &libc::NFT_REG_VERDICT.to_be_bytes());
            nest(data, 2, |value| nest(value, DATA_VERDICT, |verdict| put(verdict, VERDICT_CODE, &code.to_be_bytes())));
        })
    }

    /// It passes this chain.
    pub fn accept(self) -> Self {
        self.verdict(libc::NF_ACCEPT)
    }

    /// It is lost.
    pub fn drop(self) -> Self {
        self.verdict(libc::NF_DROP)
    }

    /// It is lost, and its sender is told at once: two rules, as TCP has its own way.
    pub fn refuse(self) -> [Self; 2] {
        let reset = self.clone().protocol(libc::IPPROTO_TCP).expression("reject", |data| {
            put(data, 1, &TCP_RESET.to_be_bytes());
        });
        let unreachable = self.expression("reject", |data| {
            put(data, 1, &ICMP_UNREACHABLE.to_be_bytes());
            put(data, 2, &[ADMINISTRATIVELY_PROHIBITED]);
        });
        [reset, unreachable]
    }

    /// Its source becomes the address of the device by which it leaves.
    pub fn translate_source(self) -> Self {
        self.expression("masq", |_| {})
    }
}

/// A chain that stands where packets are passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardChain {
    pub table: String,
    pub name: String,
    /// Whether what none of its rules decides is dropped.
    pub drops: bool,
}

impl Socket {
    /// The names of all tables for IPv4.
    pub fn tables(&self) -> io::Result<Vec<String>> {
        let mut tables = Vec::new();
        self.list(Message::new(GET_TABLE, LISTING, &ipv4()), |table| {
            let name = attributes(table.get(4..).unwrap_or(&[])).find(|(kind, _)| *kind == TABLE_NAME);
            tables.extend(name.map(|(_, name)| untext(name)));
        })?;
        Ok(tables)
    }

    /// Removes a table for IPv4.
    pub fn remove_table(&self, name: &str) -> io::Result<()> {
        let table = Message::new(REMOVE_TABLE, ANSWERED, &ipv4()).with(TABLE_NAME, &text(name));
        self.ask([begin(), table, end()])
    }

    /// The chains, of all tables, through which a forwarded IPv4 packet goes.
    pub fn forward_chains(&self) -> io::Result<Vec<ForwardChain>> {
        let mut chains = Vec::new();
        let message = Message::new(GET_CHAIN, LISTING, &header(libc::AF_UNSPEC, 0));
        let ipv4 = [libc::AF_INET as u8, INET];
        self.list(message, |chain| {
            let concerned = chain.first().is_some_and(|family| ipv4.contains(family));
            chains.extend(chain.get(4..).filter(|_| concerned).and_then(forward_chain));
        })?;
        Ok(chains)
    }
}

fn forward_chain(bytes: &[u8]) -> Option<ForwardChain> {
    let find = |wanted: u16| attributes(bytes).find_map(|(kind, value)| (kind == wanted).then_some(value));
    let word = |value: &[u8]| value.first_chunk().map(|word| i32::from_be_bytes(*word));
    let (_, number) = attributes(find(CHAIN_HOOK)?).find(|(kind, _)| *kind == HOOK_NUMBER)?;
    (word(number)? == libc::NF_INET_FORWARD).then_some(())?;
    let drops = find(CHAIN_POLICY).and_then(word) == Some(libc::NF_DROP);
    Some(ForwardChain { table: untext(find(CHAIN_TABLE)?), name: untext(find(CHAIN_NAME)?), drops })
}
