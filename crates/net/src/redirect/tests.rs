//! Rule sets as the kernel's tools list them, and what becomes of connections under them.

mod random;

use super::*;

const ISTIO_V4: &str = include_str!("fixtures/istio.v4");
const ISTIO_V6: &str = include_str!("fixtures/istio.v6");
const ISTIO_NFT: &str = include_str!("fixtures/istio.json");
const TPROXY_V4: &str = include_str!("fixtures/tproxy.v4");
const TPROXY_NFT: &str = include_str!("fixtures/tproxy.json");
const PROXY: u32 = 1337;

fn v4(text: &str) -> Result<Redirects, ReadError> {
    read_tables(text, Family::V4)
}

/// A connection that a process begins.
fn begun<'a>(protocol: Protocol, to: &str, user: u32, over: &'a str) -> First<'a> {
    let destination: SocketAddr = to.parse().unwrap();
    let source = if destination.is_ipv4() { "10.77.0.5:40000" } else { "[fd77::5]:40000" };
    let owner = Some(Owner { user, group: user });
    let source = source.parse().unwrap();
    First { protocol, source, destination, owner, from: None, to: Some(over), mark: 0 }
}

/// A connection from outside.
fn arrived<'a>(to: &str, by: &'a str) -> First<'a> {
    First { owner: None, from: Some(by), to: None, ..begun(Protocol::Tcp, to, 0, "") }
}

fn to(port: u16) -> Then {
    Then::Capture { how: How::Redirect, port }
}

/// What every reader of the same mesh's rules must find.
fn is_a_mesh(rules: &Redirects, v6: bool) {
    let addresses = ["198.51.100.1", "127.0.0.1", "10.77.0.5", "192.168.3.4", "10.96.0.10"];
    let addresses_v6 = ["[2001:db8::1]", "[::1]", "[fd77::5]", "[fd00:bad::1]", "[fd00:96::a]"];
    let [outside, local, own, left, resolver] = if v6 { addresses_v6 } else { addresses };
    let out = |protocol, address: &str, port: u16, user, over| {
        rules.decide(Hook::Output, &begun(protocol, &format!("{address}:{port}"), user, over))
    };
    use Protocol::{Tcp, Udp};
    assert_eq!(out(Tcp, outside, 443, 1000, "eth0"), to(15001));
    assert_eq!(out(Tcp, outside, 443, PROXY, "eth0"), Then::Pass, "the proxy's own");
    assert_eq!(out(Udp, outside, 443, 1000, "eth0"), Then::Pass);
    assert_eq!(out(Tcp, local, 443, 1000, "lo"), Then::Pass);
    assert_eq!(out(Tcp, own, 443, PROXY, "lo"), to(15006), "the proxy to its own Pod, as if from outside");
    assert_eq!(out(Tcp, own, 15008, PROXY, "lo"), Then::Pass);
    assert_eq!(out(Tcp, own, 443, 1000, "lo"), Then::Pass);
    assert_eq!(out(Tcp, outside, 3306, 1000, "eth0"), Then::Pass, "a port that is left out");
    assert_eq!(out(Tcp, left, 443, 1000, "eth0"), Then::Pass, "addresses that are left out");
    assert_eq!(out(Udp, resolver, 53, 1000, "eth0"), to(15053));
    assert_eq!(out(Tcp, resolver, 53, 1000, "eth0"), to(15053));
    assert_eq!(out(Udp, resolver, 53, PROXY, "eth0"), Then::Pass);
    let inward = |port: u16| rules.decide(Hook::Prerouting, &arrived(&format!("{own}:{port}"), "eth0"));
    assert_eq!(inward(8080), to(15006));
    assert_eq!([inward(22), inward(15008), inward(15090), inward(15099)], [Then::Pass; 4]);
    assert_eq!(inward(15100), to(15006));
}

#[test]
fn a_mesh_in_all_its_spellings() {
    let tables = v4(ISTIO_V4).unwrap();
    is_a_mesh(&tables, false);
    assert_eq!(tables.left_out.len(), 4, "the resolver's zones");
    is_a_mesh(&read_tables(ISTIO_V6, Family::V6).unwrap(), true);
    let both = v4(ISTIO_V4).unwrap().and(read_tables(ISTIO_V6, Family::V6).unwrap());
    is_a_mesh(&both, false);
    is_a_mesh(&both, true);
    let nft = read_nft(ISTIO_NFT, &["lichen_pod"]).unwrap();
    is_a_mesh(&nft, false);
    let out = |to, user| nft.decide(Hook::Output, &begun(Protocol::Tcp, to, user, "eth0"));
    assert_eq!([out("[2001:db8::1]:80", 1000), out("[2001:db8::1]:80", PROXY)], [to(15001), Then::Pass]);
}

#[test]
fn chains_and_returns_are_gone() {
    let words: Vec<String> = v4(ISTIO_V4).unwrap().rules.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "in ipv4 tcp to port 15008: passes",
            "in ipv4 tcp to port 22,15090-15099: passes",
            "in ipv4 tcp: redirected to 15006",
            "out ipv4 from 127.0.0.6/32 over lo: passes",
            "out ipv4 not to 127.0.0.1/32 over lo tcp not to port 53,15008 of user 1337: redirected to 15006",
            "out ipv4 over lo tcp not to port 53 not of user 1337: passes",
            "out ipv4 of user 1337: passes",
            "out ipv4 not to 127.0.0.1/32 over lo tcp not to port 15008 of group 1337: redirected to 15006",
            "out ipv4 over lo tcp not to port 53 not of group 1337: passes",
            "out ipv4 of group 1337: passes",
            "out ipv4 to 10.96.0.10/32 tcp to port 53: redirected to 15053",
            "out ipv4 udp to port 53 of user 1337: passes",
            "out ipv4 udp to port 53 of group 1337: passes",
            "out ipv4 to 10.96.0.10/32 udp to port 53: redirected to 15053",
            "out ipv4 to 127.0.0.1/32: passes",
            "out ipv4 tcp to port 3306: passes",
            "out ipv4 to 192.168.0.0/16: passes",
            "out ipv4 tcp: redirected to 15001",
        ]
    );
}

#[test]
fn a_transparent_proxy() {
    for rules in [v4(TPROXY_V4).unwrap(), read_nft(TPROXY_NFT, &[]).unwrap()] {
        let handed = Then::Capture { how: How::Tproxy { mark: 1337 }, port: 15006 };
        let inward = |to: &str, by| rules.decide(Hook::Prerouting, &arrived(to, by));
        assert_eq!(inward("10.77.0.5:32000", "eth0"), handed);
        assert_eq!(inward("10.77.0.5:80", "eth0"), Then::Pass);
        assert_eq!(inward("10.77.0.5:32000", "lo"), Then::Pass);
        let marked = |mark, by| rules.decide(Hook::Prerouting, &First { mark, ..arrived("10.77.0.5:32000", by) });
        assert_eq!([marked(1337, "eth0"), marked(1338, "lo")], [Then::Pass, handed]);
        assert!(!rules.left_out.is_empty());
    }
}

/// One table of a text for `iptables-save`, with a rule or more in a chain that the kernel calls.
fn nat(rules: &str) -> String {
    format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n{rules}\nCOMMIT\n"
    )
}

fn refused(text: &str) -> Vec<Why> {
    match v4(text) {
        Err(ReadError::Refused(refused)) => refused.into_iter().map(|refusal| refusal.why).collect(),
        other => panic!("{text}\nis not refused: {other:?}"),
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let unknown = |word: &str| vec![Why::Unknown(word.to_owned())];
    let cases = [
        ("-A OUTPUT -p tcp -m statistic --mode random -j RETURN", unknown("-m statistic")),
        ("-A OUTPUT -p icmp -j RETURN", unknown("-p icmp")),
        ("-A OUTPUT -p tcp -m tcp --syn -j RETURN", unknown("--syn")),
        ("-A OUTPUT -p tcp -j DROP", vec![Why::Drops]),
        ("-A OUTPUT -p tcp -j DNAT --to-destination 10.0.0.1:80", vec![Why::Elsewhere]),
        ("-A OUTPUT -p tcp -j DNAT --to-destination 127.0.0.1", vec![Why::Elsewhere]),
        ("-A OUTPUT -p tcp -j REDIRECT", vec![Why::Elsewhere]),
        ("-A OUTPUT -p tcp -j REDIRECT --to-ports 1-2", vec![Why::Elsewhere]),
        ("-A OUTPUT -p tcp -j REDIRECT --to-ports 1 --random", unknown("--random")),
        ("-A OUTPUT -p tcp -m mark --mark 0x1/0xgg -j RETURN", vec![Why::Value("--mark".to_owned())]),
        ("-A OUTPUT -m owner --uid-owner root -j RETURN", vec![Why::Name]),
        ("-A OUTPUT -o veth+ -j RETURN", vec![Why::Value("-o".to_owned())]),
        ("-A OUTPUT -d ::1/128 -j RETURN", vec![Why::Value("-d".to_owned())]),
        ("-A OUTPUT -d 10.0.0.0/33 -j RETURN", vec![Why::Value("-d".to_owned())]),
        ("-A OUTPUT -p tcp -m tcp --dport 2:1 -j RETURN", vec![Why::Value("--dport".to_owned())]),
        ("-A OUTPUT -p tcp -j", vec![Why::Value("-j".to_owned())]),
        ("-A OUTPUT ! -j RETURN", unknown("! before -j")),
        ("-A OUTPUT -j MASQUERADE", vec![Why::Jump("MASQUERADE".to_owned())]),
        ("-A OUTPUT -j PREROUTING", vec![Why::Jump("PREROUTING".to_owned())]),
        ("-A OUTPUT -j A\n-A A -j B\n-A B -j A", vec![Why::Jump("B".to_owned())]),
        ("-A POSTROUTING -j RETURN", vec![Why::Place("nat POSTROUTING".to_owned())]),
        ("-A OUTPUT -j MARK --set-xmark 0x1/0xffffffff", vec![Why::Mark]),
    ];
    for (rule, why) in cases {
        assert_eq!(refused(&nat(rule)), why, "{rule}");
    }
    let several = nat("-A OUTPUT -p icmp -j RETURN\n-A OUTPUT -j MASQUERADE");
    assert_eq!(refused(&several).len(), 2, "all at once");
    let said = v4(&several).unwrap_err().to_string();
    assert!(said.contains("2 of the rules") && said.contains("“-A OUTPUT -j MASQUERADE”"), "{said}");
    assert_eq!(refused("*filter\n:INPUT DROP [0:0]\nCOMMIT\n"), [Why::Drops]);
}

#[test]
fn two_tables_at_one_place_are_refused() {
    let mangle = "*mangle\n:PREROUTING ACCEPT\n-A PREROUTING -p tcp -j TPROXY --on-port 1 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1\nCOMMIT\n";
    let text = nat("-A PREROUTING -p tcp -j REDIRECT --to-ports 2") + mangle;
    assert_eq!(refused(&text), [Why::TwoTables]);
    let apart = nat("-A OUTPUT -p tcp -j REDIRECT --to-ports 2") + mangle;
    assert_eq!(v4(&apart).unwrap().rules.len(), 2);
}

#[test]
fn what_is_no_listing_is_told() {
    assert_eq!(v4("*nat\n-N A\nCOMMIT"), Err(ReadError::Line(2)));
    assert_eq!(v4("*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p tcp -j REDIRECT --to-ports 1\n"), Err(ReadError::Cut));
    assert_eq!(v4("-A OUTPUT -j RETURN"), Err(ReadError::Line(1)));
    assert_eq!(v4("*nat\n-A NOWHERE -j RETURN"), Err(ReadError::Line(2)));
    assert_eq!(v4(&"#".repeat(TEXT_LIMIT + 1)), Err(ReadError::TooLong));
    assert_eq!(read_nft("{}", &[]), Err(ReadError::Json));
    assert_eq!(read_nft("[]x", &[]), Err(ReadError::Json));
    assert!(v4("").unwrap().is_empty());
}

#[test]
fn chains_without_end_are_given_up() {
    let twice: String =
        (0..40).map(|n| format!("-A OUTPUT -d 10.0.0.{n}/32 -j A\n-A A -s 10.0.1.{n}/32 -j RETURN\n")).collect();
    assert_eq!(v4(&nat(&(twice + "-A OUTPUT -p tcp -j REDIRECT --to-ports 1"))), Err(ReadError::TooManyWays(20_000)));
    assert_eq!(v4(&nat("-A OUTPUT -g A\n-A A -g B\n-A B -g A")), Err(ReadError::TooManyWays(20_000)));
}

/// A rule of nft in a chain that the kernel calls.
fn nft(expr: &str) -> Result<Redirects, ReadError> {
    let chain = r#"{"chain":{"family":"inet","table":"t","name":"o","handle":1,"type":"nat","hook":"output","prio":-100,"policy":"accept"}}"#;
    let rule = format!(r#"{{"rule":{{"family":"inet","table":"t","chain":"o","handle":2,"expr":[{expr}]}}}}"#);
    read_nft(&format!(r#"{{"nftables":[{chain},{rule}]}}"#), &[])
}

#[test]
fn statements_of_nft_that_are_not_understood() {
    let question = |left: &str, op: &str, right: &str| {
        format!(r#"{{"match":{{"op":"{op}","left":{left},"right":{right}}}}},{{"redirect":{{"port":1}}}}"#)
    };
    let user = r#"{"meta":{"key":"skuid"}}"#;
    let why = |expr: &str| match nft(expr) {
        Err(ReadError::Refused(refused)) => refused[0].why.clone(),
        other => panic!("{expr} is not refused: {other:?}"),
    };
    assert_eq!(why(&question(user, "==", "\"root\"")), Why::Name);
    assert_eq!(why(r#"{"xt":{"type":"target","name":"REDIRECT"}}"#), Why::OfTables);
    assert_eq!(why(r#"{"dnat":{"addr":"10.0.0.1","port":80}}"#), Why::Elsewhere);
    assert_eq!(why(r#"{"redirect":{"port":{"range":[1,2]}}}"#), Why::Elsewhere);
    assert_eq!(why(r#"{"redirect":{"port":1,"flags":"random"}}"#), Why::Elsewhere);
    assert_eq!(why(r#"{"redirect":null}"#), Why::Elsewhere);
    assert_eq!(why(r#"{"drop":null}"#), Why::Drops);
    let unknown = [
        question(user, "<", "5"),
        question(user, "==", "\"@set\""),
        question(user, "==", "-1"),
        question(user, "==", r#"{"set":[]}"#),
        question(r#"{"fib":{"result":"type","flags":"daddr"}}"#, "==", "2"),
        question(r#"{"payload":{"protocol":"ip","field":"daddr"}}"#, "==", "\"::1\""),
        question(
            r#"{"payload":{"protocol":"ip","field":"daddr"}}"#,
            "==",
            r#"{"prefix":{"addr":"10.0.0.0","len":33}}"#,
        ),
        question(r#"{"payload":{"protocol":"tcp","field":"dport"}}"#, "==", "65536"),
        r#"{"notrack":null}"#.to_owned(),
        r#"{"vmap":{"key":1,"data":2}}"#.to_owned(),
        "5".to_owned(),
        "{}".to_owned(),
    ];
    for expr in unknown {
        assert!(matches!(why(&expr), Why::Unknown(_)), "{expr}");
    }
    let users = nft(&question(user, "!=", r#"{"set":[5,{"range":[7,9]}]}"#)).unwrap();
    assert_eq!(users.rules[0].to_string(), "out not of user 5,7-9: redirected to 1");
}
