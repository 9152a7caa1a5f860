//! Elements of sets: the one thing of a packet filter that changes while it is at work.

use super::filter::{INET, SUBSYSTEM, begin, end};
use super::{ANSWERED, Message, Socket, nest, put, text};
use std::io;

const NEW_ELEMENT: u16 = SUBSYSTEM | libc::NFT_MSG_NEWSETELEM as u16;
const REMOVE_ELEMENT: u16 = SUBSYSTEM | libc::NFT_MSG_DELSETELEM as u16;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const DATA_VALUE: u16 = 1;

/// An element that a set is to have, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    pub set: &'a str,
    /// As the kernel has it: each part padded to four bytes.
    pub key: Vec<u8>,
    pub there: bool,
}

impl Socket {
    /// Changes sets of a table for IPv4 and IPv6: all of it or nothing. What is to be removed must be there.
    pub fn change_sets(&self, table: &str, changes: &[Element<'_>]) -> io::Result<()> {
        let header = [INET, 0, 0, 0];
        let change = |change: &Element<'_>| {
            let (kind, flags) =
                if change.there { (NEW_ELEMENT, libc::NLM_F_CREATE as u16) } else { (REMOVE_ELEMENT, 0) };
            Message::new(kind, flags | ANSWERED, &header)
                .with(LIST_TABLE, &text(table))
                .with(LIST_SET, &text(change.set))
                .with_nested(LIST_ELEMENTS, |list| {
                    nest(list, LIST_ELEMENT, |element| {
                        nest(element, ELEMENT_KEY, |key| put(key, DATA_VALUE, &change.key));
                    });
                })
        };
        self.ask(std::iter::once(begin()).chain(changes.iter().map(change)).chain([end()]))
    }
}
