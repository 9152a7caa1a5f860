//! Connections that a rule of their namespace hands to a proxy, as a mesh's sidecars have them.

use super::*;
use std::net::{TcpListener, TcpStream};

/// A device of which every address of a network is beyond, and a rule that leads what goes there to a port here.
const NETWORK: &str = "ip link add beyond type dummy && ip address add 10.9.9.1/24 dev beyond && ip link set beyond up";
const RULES: &str = "table ip mesh { chain out { type nat hook output priority -100; ip daddr 10.9.9.8 tcp dport 80 redirect to :PORT; }; }";

fn done(shell: &str) -> bool {
    Command::new("sh").args(["-c", shell]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn a_caller_and_the_proxy_that_answers_for_another_meet() {
    let met = in_a_network(|_| {
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = proxy.local_addr().unwrap().port().to_string();
        if !done(&format!("{NETWORK} && nft '{}'", RULES.replace("PORT", &port))) {
            return None;
        }
        let caller = TcpStream::connect("10.9.9.8:80").unwrap();
        let answers = proxy.accept().unwrap().0;
        assert_ne!(answers.local_addr().unwrap(), caller.peer_addr().unwrap());
        let served = serve(quick());
        let (one, two) = (Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap());
        let (first, second) = (offer(&served, &key(&one), &caller), offer(&served, &key(&two), &answers));
        let ((a, _), (b, _)) = (told(&first).unwrap(), told(&second).unwrap());
        Some((a.number, b.number))
    });
    // It takes root, and nft.
    if let Some((one, two)) = met.flatten() {
        assert_eq!(one, two);
    }
}
