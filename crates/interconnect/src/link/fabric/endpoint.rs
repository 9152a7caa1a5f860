//! One endpoint of a fabric that speaks to one other: messages out of slots, into slots.
//!
//! ```text
//!   arena:  │ contexts │ slots to receive: 0 … WINDOW │ slots to send: WINDOW … 2·WINDOW │      one registered region
//!
//!   a slot is ours, or the provider's from `post` or `send` until `poll` says that it is done
//! ```
//!
//! Used by one thread. Nothing happens in a provider but by these calls: whoever expects something keeps calling
//! [`Endpoint::poll`]. Messages match in the order in which slots were posted, and only with the tag that both ends
//! know; who sends what, and how many at once, is not known here.

use super::bindings::*;
use super::library::{Library, LibraryError};
use super::{Provider, WINDOW};
use crate::layout::PAGE;
use crate::link::MESSAGE_MAX;
use rustix::io::Errno;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::{CString, c_int, c_void};
use std::net::IpAddr;
use std::ptr::{null, null_mut};
use thiserror::Error;

/// The longest name of an endpoint.
pub const NAME_MAX: usize = 256;
const CONTEXTS: usize = (2 * WINDOW * size_of::<Context>()).next_multiple_of(PAGE);

/// Why there is no endpoint, or why it is over.
#[derive(Debug, Error)]
pub enum FabricError {
    #[error(transparent)]
    Library(#[from] LibraryError),
    #[error("libfabric has no provider `{provider}` at {}: {text}", address.map_or("any address".into(), |a| a.to_string()))]
    NoProvider { provider: &'static str, address: Option<IpAddr>, text: String },
    #[error("`{call}` of libfabric fails: {text}")]
    Call { call: &'static str, text: String },
    #[error("an operation on the fabric failed: {0}")]
    Operation(String),
    #[error("cannot start a thread for the fabric")]
    Thread(#[source] std::io::Error),
}

/// An operation that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Sent { slot: usize },
    Received { slot: usize, len: usize },
}

/// Memory that the provider reads and writes.
struct Arena {
    base: *mut u8,
}

impl Arena {
    fn layout() -> Layout {
        const { assert!(CONTEXTS.is_multiple_of(PAGE) && MESSAGE_MAX.is_multiple_of(PAGE)) }
        // SAFETY: a page is a power of two, and the size is a multiple of it far below the limit.
        unsafe { Layout::from_size_align_unchecked(CONTEXTS + 2 * WINDOW * MESSAGE_MAX, PAGE) }
    }

    fn new() -> Self {
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc_zeroed(Self::layout()) };
        if base.is_null() {
            handle_alloc_error(Self::layout());
        }
        Self { base }
    }

    fn slot(&self, slot: usize) -> *mut u8 {
        assert!(slot < 2 * WINDOW);
        // SAFETY: within the layout, by the assertion.
        unsafe { self.base.add(CONTEXTS + slot * MESSAGE_MAX) }
    }

    fn context(&self, slot: usize) -> *mut c_void {
        assert!(slot < 2 * WINDOW);
        // SAFETY: within the layout, by the assertion.
        unsafe { self.base.add(slot * size_of::<Context>()).cast() }
    }

    /// The slot whose context this is.
    fn owner(&self, context: *mut c_void) -> Option<usize> {
        let offset = (context as usize).checked_sub(self.base as usize)?;
        let slot = offset / size_of::<Context>();
        (offset.is_multiple_of(size_of::<Context>()) && slot < 2 * WINDOW).then_some(slot)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; the endpoint, which alone lends it out, was closed before.
        unsafe { dealloc(self.base, Self::layout()) };
    }
}

/// A descriptor of libfabric, closed when dropped.
struct Open<T>(*mut T);

impl<T> Open<T> {
    fn fid(&self) -> *mut Fid {
        // Every descriptor begins with its `fid`.
        self.0.cast()
    }
}

impl<T> Drop for Open<T> {
    fn drop(&mut self) {
        // SAFETY: open until now, and closed before what it was made from: see the order of `Endpoint`'s members.
        let _ = unsafe { ((*(*self.fid()).ops).close)(self.fid()) };
    }
}

/// An endpoint. Its members are closed in this order.
pub struct Endpoint {
    ep: Open<FidEp>,
    memory: Option<Open<FidMr>>,
    cq: Open<FidCq>,
    av: Open<FidAv>,
    _domain: Open<FidDomain>,
    _fabric: Open<FidFabric>,
    arena: Arena,
    library: &'static Library,
    peer: u64,
    tag_in: u64,
    tag_out: u64,
}

// SAFETY: the pointers are to what libfabric allocated for this endpoint alone, which any one thread may use.
unsafe impl Send for Endpoint {}

/// A list of what providers offer, freed when dropped.
struct Offers {
    first: *mut Info,
    library: &'static Library,
}

impl Drop for Offers {
    fn drop(&mut self) {
        // SAFETY: the list came from libfabric, and is freed once.
        unsafe { (self.library.free_info)(self.first) };
    }
}

impl Endpoint {
    /// An endpoint of this provider, on the device that has this address; a provider without addresses needs none.
    pub fn open(provider: Provider, address: Option<IpAddr>) -> Result<Self, FabricError> {
        let library = Library::get()?;
        let offers = offers(library, provider, address)?;
        // SAFETY: every call gets what was made by the one before and what libfabric offered for it; outputs are written
        // when the answer is 0, which `check` makes sure of before they are wrapped.
        unsafe {
            let info = offers.first;
            let fabric =
                opened(library, "fi_fabric", |out| (library.open_fabric)((*info).fabric_attr, out, null_mut()))?;
            let domain =
                opened(library, "fi_domain", |out| ((*(*fabric.0).ops).domain)(fabric.0, info, out, null_mut()))?;
            let operations = &*(*domain.0).ops;
            let av = opened(library, "fi_av_open", |out| {
                let kind = (*(*info).domain_attr).av_type;
                let mut attr = AvAttr {
                    kind,
                    rx_ctx_bits: 0,
                    count: 1,
                    ep_per_node: 0,
                    name: null(),
                    map_addr: null_mut(),
                    flags: 0,
                };
                (operations.av_open)(domain.0, &mut attr, out, null_mut())
            })?;
            let cq = opened(library, "fi_cq_open", |out| {
                // No wait object: not every provider has one, and who sleeps here is rung by other means.
                let mut attr = CqAttr {
                    size: 4 * WINDOW,
                    flags: 0,
                    format: FI_CQ_FORMAT_TAGGED,
                    wait_obj: 0,
                    signaling_vector: 0,
                    wait_cond: 0,
                    wait_set: null_mut(),
                };
                (operations.cq_open)(domain.0, &mut attr, out, null_mut())
            })?;
            let arena = Arena::new();
            let local = (*(*info).domain_attr).mr_mode & FI_MR_LOCAL != 0;
            let memory = if local { Some(register(library, &domain, &arena)?) } else { None };
            let ep = opened(library, "fi_endpoint", |out| (operations.endpoint)(domain.0, info, out, null_mut()));
            // Here it shows that no device has that address.
            let ep = ep.map_err(|error| match error {
                FabricError::Call { text, .. } => FabricError::NoProvider { provider: provider.name(), address, text },
                other => other,
            })?;
            let calls = &*(*ep.fid()).ops;
            check(library, "fi_ep_bind", (calls.bind)(ep.fid(), cq.fid(), FI_SEND | FI_RECV))?;
            check(library, "fi_ep_bind", (calls.bind)(ep.fid(), av.fid(), 0))?;
            check(library, "fi_enable", (calls.control)(ep.fid(), FI_ENABLE, null_mut()))?;
            let (peer, tag_in, tag_out) = (FI_ADDR_UNSPEC, 0, 0);
            Ok(Self { ep, memory, cq, av, _domain: domain, _fabric: fabric, arena, library, peer, tag_in, tag_out })
        }
    }

    /// What the other end is to be told: where this one is.
    pub fn name(&self) -> Result<Vec<u8>, FabricError> {
        let mut name = vec![0; NAME_MAX];
        let mut len = name.len();
        // SAFETY: the endpoint is enabled, and the buffer has as many bytes as `len` says.
        let code = unsafe { ((*(*self.ep.0).cm).getname)(self.ep.fid(), name.as_mut_ptr().cast(), &mut len) };
        check(self.library, "fi_getname", code)?;
        name.truncate(len);
        Ok(name)
    }

    /// From now on this endpoint speaks to that one; each takes only what bears its tag.
    pub fn connect(&mut self, name: &[u8], tag_in: u64, tag_out: u64) -> Result<(), FabricError> {
        // A provider reads as much as its kind of name has, whatever the peer has sent.
        let mut padded = [0_u8; 2 * NAME_MAX];
        let len = name.len().min(NAME_MAX);
        padded[..len].copy_from_slice(&name[..len]);
        // SAFETY: the name is followed by zeroes, more than any name is long; one address is asked for and written.
        let inserted = unsafe {
            let insert = (*(*self.av.0).ops).insert;
            insert(self.av.0, padded.as_ptr().cast(), 1, &mut self.peer, 0, null_mut())
        };
        if inserted != 1 {
            return Err(FabricError::Operation("the other end's name is not one of this provider".into()));
        }
        (self.tag_in, self.tag_out) = (tag_in, tag_out);
        (0..WINDOW).try_for_each(|slot| self.post(slot))
    }

    /// Lends a slot to the provider, for a message to come.
    pub fn post(&mut self, slot: usize) -> Result<(), FabricError> {
        // SAFETY: the slot is ours, and the provider's from now on; `poll` gives it back.
        let code = unsafe {
            let (buffer, context) = (self.arena.slot(slot).cast(), self.arena.context(slot));
            let receive = (*(*self.ep.0).tagged).recv;
            receive(self.ep.0, buffer, MESSAGE_MAX, self.descriptor(), FI_ADDR_UNSPEC, self.tag_in, 0, context)
        };
        check(self.library, "fi_trecv", code as c_int)
    }

    /// Lends a slot to the provider with a message to send. False: the provider has to make progress first.
    pub fn send(&mut self, slot: usize, message: &[u8]) -> Result<bool, FabricError> {
        assert!((WINDOW..2 * WINDOW).contains(&slot) && message.len() <= MESSAGE_MAX);
        // SAFETY: the slot is ours, has room for the longest message, and is the provider's if it takes it.
        let code = unsafe {
            let (buffer, context) = (self.arena.slot(slot), self.arena.context(slot));
            std::ptr::copy_nonoverlapping(message.as_ptr(), buffer, message.len());
            let send = (*(*self.ep.0).tagged).send;
            send(self.ep.0, buffer.cast(), message.len(), self.descriptor(), self.peer, self.tag_out, context)
        };
        if code == -(Errno::AGAIN.raw_os_error() as isize) {
            return Ok(false);
        }
        check(self.library, "fi_tsend", code as c_int).map(|()| true)
    }

    /// Copies a message that was received out of its slot.
    pub fn copy(&self, slot: usize, len: usize) -> Vec<u8> {
        assert!(slot < WINDOW && len <= MESSAGE_MAX);
        let mut message = vec![0; len];
        // SAFETY: the slot is ours since `poll` said so, and has as many bytes.
        unsafe { std::ptr::copy_nonoverlapping(self.arena.slot(slot), message.as_mut_ptr(), len) };
        message
    }

    /// Lets the provider make progress: an operation that is over by now.
    pub fn poll(&mut self) -> Result<Option<Done>, FabricError> {
        let mut entry = CqTaggedEntry { op_context: null_mut(), flags: 0, len: 0, buf: null_mut(), data: 0, tag: 0 };
        // SAFETY: room for one entry of the format that the queue was opened with.
        let read = unsafe { ((*(*self.cq.0).ops).read)(self.cq.0, (&raw mut entry).cast(), 1) };
        if read == -(Errno::AGAIN.raw_os_error() as isize) || read == 0 {
            return Ok(None);
        }
        if read == -FI_EAVAIL {
            return Err(self.failure());
        }
        check(self.library, "fi_cq_read", read.min(0) as c_int)?;
        match self.arena.owner(entry.op_context) {
            Some(slot) if slot >= WINDOW => Ok(Some(Done::Sent { slot })),
            Some(slot) if entry.len <= MESSAGE_MAX => Ok(Some(Done::Received { slot, len: entry.len })),
            _ => Err(FabricError::Operation("the provider speaks of an operation that nobody began".into())),
        }
    }

    /// Why an operation failed.
    fn failure(&mut self) -> FabricError {
        // SAFETY: all zeroes is a value of this structure.
        let mut entry: CqErrEntry = unsafe { std::mem::zeroed() };
        // SAFETY: room for one such entry; the queue has one, as its last answer said.
        unsafe { ((*(*self.cq.0).ops).readerr)(self.cq.0, &mut entry, 0) };
        FabricError::Operation(self.library.text(entry.err))
    }

    fn descriptor(&self) -> *mut c_void {
        // SAFETY: registered memory outlives this call, as a member of this endpoint.
        self.memory.as_ref().map_or(null_mut(), |memory| unsafe { (*memory.0).mem_desc })
    }
}

/// What this provider offers at this address.
fn offers(library: &'static Library, provider: Provider, address: Option<IpAddr>) -> Result<Offers, FabricError> {
    let none = |text| FabricError::NoProvider { provider: provider.name(), address, text };
    // SAFETY: a copy of nothing is an empty structure of which every part is there.
    let hints = Offers { first: unsafe { (library.dup_info)(null()) }, library };
    if hints.first.is_null() {
        return Err(none("no memory".into()));
    }
    let name = CString::new(provider.libfabric()).unwrap_or_default();
    // SAFETY: the parts of an empty structure are there, and ours; the name is C's allocation, as freeing it expects.
    unsafe {
        let hints = &mut *hints.first;
        hints.caps = FI_TAGGED;
        hints.mode = FI_CONTEXT | FI_CONTEXT2;
        (*hints.ep_attr).kind = FI_EP_RDM;
        (*hints.tx_attr).msg_order = FI_ORDER_SAS;
        (*hints.rx_attr).msg_order = FI_ORDER_SAS;
        (*hints.domain_attr).threading = FI_THREAD_DOMAIN;
        (*hints.domain_attr).mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
        (*hints.fabric_attr).prov_name = libc::strdup(name.as_ptr());
    }
    let node = address.and_then(|address| CString::new(address.to_string()).ok());
    let flags = if node.is_some() { FI_SOURCE } else { 0 };
    let mut first = null_mut();
    // SAFETY: texts and hints outlive the call.
    let code = unsafe {
        let node = node.as_ref().map_or(null(), |node| node.as_ptr());
        (library.get_info)(API_VERSION, node, null(), flags, hints.first, &mut first)
    };
    if code != 0 || first.is_null() {
        return Err(none(library.text(-code)));
    }
    let offers = Offers { first, library };
    // SAFETY: libfabric's list, of which every part is there.
    let fits = unsafe { (*(*first).ep_attr).max_msg_size >= MESSAGE_MAX };
    if fits { Ok(offers) } else { Err(none("its messages are too short".into())) }
}

fn register(library: &Library, domain: &Open<FidDomain>, arena: &Arena) -> Result<Open<FidMr>, FabricError> {
    opened(library, "fi_mr_reg", |out| {
        // SAFETY: the domain is open, and the arena as long as its layout says; it is freed after the registration.
        unsafe {
            let register = (*(*domain.0).mr).reg;
            let len = Arena::layout().size();
            register(domain.fid(), arena.base.cast(), len, FI_SEND | FI_RECV, 0, 0, 0, out, null_mut())
        }
    })
}

fn opened<T>(
    library: &Library,
    call: &'static str,
    open: impl FnOnce(*mut *mut T) -> c_int,
) -> Result<Open<T>, FabricError> {
    let mut descriptor = null_mut();
    check(library, call, open(&mut descriptor))?;
    if descriptor.is_null() {
        return Err(FabricError::Call { call, text: "it answers with nothing".into() });
    }
    Ok(Open(descriptor))
}

fn check(library: &Library, call: &'static str, code: c_int) -> Result<(), FabricError> {
    if code == 0 { Ok(()) } else { Err(FabricError::Call { call, text: library.text(code.saturating_neg()) }) }
}
