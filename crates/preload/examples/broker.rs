//! `broker PATH`: a broker at PATH for as long as its standard input is open; then says how many connections it has brought together.
//!
//! For `tests/suites`: that suites of real programs pass says something only if their bytes went through memory.

use net::broker::{Bounds, Broker};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::{env, io};

fn main() -> io::Result<()> {
    let path = env::args_os().nth(1).map(PathBuf::from).ok_or_else(|| io::Error::other("broker PATH"))?;
    let mut broker = Broker::bind(&path, Bounds::default())?;
    println!("ready");
    broker.run(io::stdin().as_fd())?;
    println!("{}", broker.met());
    Ok(())
}
