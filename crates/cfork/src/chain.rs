//! What makes instances the stages of a chain, as gateway and instance say it through their channel.
//!
//! ```text
//!  gateway ──INVOKE──► stage 0 ══ FIFO ══► stage 1 ══ FIFO ══► stage 2 ──REPLY──► gateway
//!                         ╰┄┄ PASSED ┄┄╮      ╰┄┄ PASSED ┄┄╮
//!                                      ▼                   ▼     read when the answer is there: rings for nobody
//! ```
//!
//! A chain is set up by orders, one after the other, each answered by `CHAINED` (or `UNCHAINED`, with the reason):
//!
//! | order | to | what the stage does |
//! |---|---|---|
//! | [`Order::Attach`] | all | attaches to its shim; all but the first make their input, a FIFO that they read |
//! | [`Order::Admit`] | all but the first | lets the stage before it write there |
//! | [`Order::Begin`] | all | connects to the input of the next stage, if there is one, and serves from now on |
//!
//! What passes between stages is a *parcel*: the head of an `INVOKE`, as it came to the first stage, and a body that is
//! the result of one handler and the event of the next. The gateway is not on its way: it hears of it by `PASSED` when the
//! last stage has answered. An instance that is a stage once stays one.

/// Bytes of a parcel beside its head and its body.
pub const PARCEL_OVERHEAD: usize = 4;

/// A step of becoming a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order<'a> {
    Attach {
        /// By which the stage's handler is told that it was called.
        function_arn: &'a str,
        /// Whether another stage comes before.
        has_input: bool,
        /// The longest parcel.
        parcel_max: u64,
    },
    Admit {
        /// The process before this one, as its shim knows it.
        writer: u64,
    },
    Begin {
        /// The input of the next stage; 0 where there is none.
        output: u64,
    },
}

/// What a stage answers to an order: where others find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The process, as its shim knows it.
    pub process: u64,
    /// Its input; 0 where it has none.
    pub input: u64,
}

const ATTACH: u8 = 1;
const ADMIT: u8 = 2;
const BEGIN: u8 = 3;

impl<'a> Order<'a> {
    /// The head of a `CHAIN` message.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = Vec::new();
        match self {
            Self::Attach { function_arn, has_input, parcel_max } => {
                head.extend([ATTACH, u8::from(*has_input)]);
                head.extend(parcel_max.to_le_bytes());
                head.extend(function_arn.as_bytes());
            }
            Self::Admit { writer } => {
                head.push(ADMIT);
                head.extend(writer.to_le_bytes());
            }
            Self::Begin { output } => {
                head.push(BEGIN);
                head.extend(output.to_le_bytes());
            }
        }
        head
    }

    /// Reads a head that has just been taken; nothing where it is malformed.
    pub fn decode(head: &'a [u8]) -> Option<Self> {
        let (kind, rest) = head.split_first()?;
        let word = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
        match *kind {
            ATTACH => {
                let (has_input, rest) = rest.split_first()?;
                let (parcel_max, arn) = rest.split_at_checked(8)?;
                Some(Self::Attach {
                    function_arn: std::str::from_utf8(arn).ok()?,
                    has_input: *has_input != 0,
                    parcel_max: word(parcel_max)?,
                })
            }
            ADMIT => Some(Self::Admit { writer: word(rest)? }),
            BEGIN => Some(Self::Begin { output: word(rest)? }),
            _ => None,
        }
    }
}

impl Place {
    /// The head of a `CHAINED` message.
    pub fn encode(&self) -> [u8; 16] {
        let mut head = [0; 16];
        head[..8].copy_from_slice(&self.process.to_le_bytes());
        head[8..].copy_from_slice(&self.input.to_le_bytes());
        head
    }

    /// Reads what an instance says; nothing where it is malformed.
    pub fn decode(head: &[u8]) -> Option<Self> {
        let head: &[u8; 16] = head.try_into().ok()?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        Some(Self { process: word(0), input: word(8) })
    }
}

/// What comes before a parcel's head.
pub fn prefix(head: &[u8]) -> [u8; PARCEL_OVERHEAD] {
    (head.len() as u32).to_le_bytes()
}

/// A parcel's head and body, of one that has just been taken; nothing where it is malformed.
pub fn open(parcel: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = parcel.split_at_checked(PARCEL_OVERHEAD)?;
    rest.split_at_checked(u32::from_le_bytes(len.try_into().ok()?) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_places_survive_the_trip() {
        let attach = Order::Attach { function_arn: "arn", has_input: true, parcel_max: 7 << 20 };
        for order in [attach, Order::Admit { writer: 5 }, Order::Begin { output: 6 }] {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
        let place = Place { process: u64::MAX, input: 3 };
        assert_eq!(Place::decode(&place.encode()), Some(place));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let heads = [&b""[..], b"\x09", b"\x01", b"\x01\x01\0\0\0", b"\x02\0", b"\x03\0\0\0\0\0\0\0\0\0"];
        for head in heads.into_iter().chain([&b"\x01\x01\0\0\0\0\0\0\0\0\xff"[..]]) {
            assert_eq!(Order::decode(head), None, "{head:?}");
        }
        assert_eq!((Place::decode(&[0; 15]), Place::decode(&[0; 17])), (None, None));
        assert_eq!((open(b"\x05\0\0\0head"), open(b"\0\0\0"), open(b"\xff\xff\xff\xff")), (None, None, None));
    }

    #[test]
    fn parcels_are_opened_as_they_were_packed() {
        let parcel = [&prefix(b"head")[..], b"head", b"body"].concat();
        assert_eq!(open(&parcel), Some((&b"head"[..], &b"body"[..])));
        let empty = [&prefix(b"")[..], b""].concat();
        assert_eq!(open(&empty), Some((&b""[..], &b""[..])));
    }
}
