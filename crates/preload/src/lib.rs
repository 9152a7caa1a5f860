//! `liblichen_socket.so`: the calls through which programs use TCP, made to find what lies in memory. For `LD_PRELOAD`.
//!
//! | module | what is in it |
//! |---|---|
//! | [`calls`] | the calls, as programs make them |
//! | [`real`] | the same as the next library has them |
//! | [`slot`] | what is known of each socket, and which descriptor is which |
//! | [`offer`] | how a connection gets memory |
//! | [`send`], [`receive`] | the two directions |
//! | [`poll`], [`epoll`] | waiting for several descriptors |
//! | [`bell`] | by what others wake this process |
//! | [`settle`] | going back to TCP before a connection gets into other hands |
//! | [`rings`] | programs that ask the kernel past libc |
//! | [`look`] | looking before sleeping |
//! | [`kernel`] | what the kernel is asked about a socket |
//! | [`member`] | this process's place with the broker |
//! | [`relatives`] | the processes that have forked each other |
//! | [`env`] | what the environment says |
//!
//! Descriptors stay the kernel's, and so does the TCP connection: its names, options, states and errors. What cannot be carried
//! through memory goes over TCP, unchanged. A leaf: nothing may depend on this crate. Without `LICHEN_SOCKET_BROKER` in
//! the environment it does nothing at all.

mod bell;
mod calls;
mod env;
mod epoll;
mod kernel;
mod look;
mod member;
mod offer;
mod poll;
mod real;
mod receive;
mod relatives;
mod rings;
mod say;
mod send;
mod settle;
mod slot;
mod turn;

extern "C" fn start() {
    if env::is_on() {
        slot::start();
        member::make_room();
    }
}

/// Run by the loader before the program's own code.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;
