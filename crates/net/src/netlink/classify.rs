//! Programs for the packets that enter by a device, and what has to be known to write them.
//!
//! They stay with the device, whoever has put them there and whatever becomes of that process. What is there already is no
//! error, nor is what is gone.

use super::{ANSWERED, LISTING, Message, Socket, attributes, put, text, untext};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

const IFLA_IFNAME: u16 = 3;
const LINK_HEADER_LEN: usize = 16;
/// Devices whose packets begin with a header of Ethernet's.
const FRAMED: [u16; 2] = [libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK];

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
/// What the program answers is what is done.
const DIRECT: u32 = 1;
/// Where programs stand that see what enters and what leaves (`clsact`), and its two sides.
const QUEUE: u32 = 0xffff_0000;
const QUEUE_PARENT: u32 = 0xffff_fff1;
const ENTERING: u32 = 0xffff_fff2;
const LEAVING: u32 = 0xffff_fff3;
/// Packets of all protocols.
const ALL: u16 = libc::ETH_P_ALL as u16;
/// Ours is the one of this number at this place.
const NUMBER: u32 = 1;
const PLACE: u16 = 17700;

const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub index: u32,
    pub name: String,
    /// Whether its packets begin with a header of Ethernet's.
    pub framed: bool,
    /// Whether it is to be up.
    pub up: bool,
}

impl Socket {
    pub fn devices(&self) -> io::Result<Vec<Device>> {
        let mut devices = Vec::new();
        self.list(Message::new(libc::RTM_GETLINK, LISTING, &[0; LINK_HEADER_LEN]), |device| {
            let (kind, index) = (device.get(2..4).map(<[u8; 2]>::try_from), device.get(4..8).map(<[u8; 4]>::try_from));
            let (Some(Ok(kind)), Some(Ok(index))) = (kind, index) else { return };
            let up = device.get(8..12).is_some_and(|flags| i32::from(flags[0]) & libc::IFF_UP != 0);
            let mut found = attributes(device.get(LINK_HEADER_LEN..).unwrap_or(&[]));
            let name = found.find(|(kind, _)| *kind == IFLA_IFNAME).map(|(_, name)| untext(name));
            let framed = FRAMED.contains(&u16::from_ne_bytes(kind));
            devices.push(Device { index: u32::from_ne_bytes(index), name: name.unwrap_or_default(), framed, up });
        })?;
        Ok(devices)
    }

    /// Shows a program all that enters by a device from now on, in the place of the one that it was shown to before.
    pub fn classify(&self, device: u32, program: impl AsFd) -> io::Result<()> {
        let create = libc::NLM_F_CREATE as u16 | ANSWERED;
        let queue = Message::new(libc::RTM_NEWQDISC, create | libc::NLM_F_EXCL as u16, &queue(device));
        match self.ask([queue.with(TCA_KIND, &text("clsact"))]) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
        let filter = Message::new(libc::RTM_NEWTFILTER, create, &ours(device)).with(TCA_KIND, &text("bpf"));
        self.ask([filter.with_nested(TCA_OPTIONS, |options| {
            put(options, TCA_BPF_FD, &program.as_fd().as_raw_fd().to_ne_bytes());
            put(options, TCA_BPF_NAME, &text("lichen"));
            put(options, TCA_BPF_FLAGS, &DIRECT.to_ne_bytes());
        })])
    }

    /// Takes the program away, and with the last one the place where they stood.
    pub fn classify_no_more(&self, device: u32) -> io::Result<()> {
        let filter = Message::new(libc::RTM_DELTFILTER, ANSWERED, &ours(device)).with(TCA_KIND, &text("bpf"));
        if !gone(self.ask([filter]))? || self.has_classifiers(device)? {
            return Ok(());
        }
        let queue = Message::new(libc::RTM_DELQDISC, ANSWERED, &queue(device));
        gone(self.ask([queue.with(TCA_KIND, &text("clsact"))])).map(drop)
    }

    fn has_classifiers(&self, device: u32) -> io::Result<bool> {
        let mut some = false;
        for side in [ENTERING, LEAVING] {
            let request = Message::new(libc::RTM_GETTFILTER, LISTING, &header(device, 0, side, 0));
            self.list(request, |_| some = true)?;
        }
        Ok(some)
    }

    /// By which number this socket's namespace knows another.
    pub fn number_of(&self, namespace: impl AsFd) -> io::Result<i32> {
        let namespace = namespace.as_fd().as_raw_fd().to_ne_bytes();
        let any = Message::new(libc::RTM_NEWNSID, ANSWERED, &[0; 4]).with(NETNSA_NSID, &(-1i32).to_ne_bytes());
        match self.ask([any.with(NETNSA_FD, &namespace)]) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
        let mut number = None;
        self.ask_for(Message::new(libc::RTM_GETNSID, 0, &[0; 4]).with(NETNSA_FD, &namespace), |answer| {
            let mut found = attributes(answer.get(4..).unwrap_or(&[]));
            let value = found.find(|(kind, _)| *kind == NETNSA_NSID).and_then(|(_, value)| value.try_into().ok());
            number = value.map(i32::from_ne_bytes);
        })?;
        number.filter(|number| *number >= 0).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Whether it was there.
fn gone(result: io::Result<()>) -> io::Result<bool> {
    match result {
        // The second is what the kernel says where nothing can stand at all.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(false),
        result => result.map(|()| true),
    }
}

fn queue(device: u32) -> Vec<u8> {
    header(device, QUEUE, QUEUE_PARENT, 0)
}

fn ours(device: u32) -> Vec<u8> {
    header(device, NUMBER, ENTERING, u32::from(PLACE) << 16 | u32::from(ALL.to_be()))
}

fn header(device: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, device, handle, parent, info].map(u32::to_ne_bytes).concat()
}
