//! Networks between network namespaces.
//!
//! [`egress`] gives sandboxes a way out that leads to nothing of this host. [`netlink`] is how the kernel is asked for
//! links, addresses, routes and packet filters: a few requests, written out here, so that neither a crate of thousands of
//! types nor a command line has to be there (`docs/adr/0004-egress.md`).
//!
//! [`redirect`] reads the rules by which sidecars get a Pod's connections. [`split`] makes one network of namespaces that
//! stand on several processing units (`docs/hetero-net.md`). [`broker`] serves processes that talk through memory instead:
//! between them.
//!
//! Egress is IPv4 only. What runs in a namespace, and who may have which network, is decided above.
#![forbid(unsafe_code)]

pub mod broker;
pub mod egress;
pub mod netlink;
pub mod redirect;
pub mod relay;
pub mod split;
