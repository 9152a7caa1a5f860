//! CNI's result: what the plugins before this one have said, and the link between the halves.

use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;

/// Where a half's link is, and how it is called there.
pub struct End<'a> {
    pub link: &'a str,
    pub namespace: &'a Path,
}

/// The result of an ADD. Numbers that refer to interfaces go on being right: ours come last.
pub fn result(previous: Option<&Value>, version: &str, ends: &[End<'_>]) -> String {
    let mut result = previous.cloned().unwrap_or_else(|| json!({ "interfaces": [], "ips": [], "dns": {} }));
    result["cniVersion"] = json!(version);
    let ours = ends.iter().map(|end| json!({ "name": end.link, "sandbox": end.namespace }));
    match result.get_mut("interfaces").and_then(Value::as_array_mut) {
        Some(interfaces) => interfaces.extend(ours),
        None if ends.is_empty() => {}
        None => result["interfaces"] = ours.collect(),
    }
    format!("{result}\n")
}

/// The addresses that a result gives the container: those on interfaces in its namespace, and those on none in particular.
pub fn addresses(result: &Value, namespace: &Path) -> Vec<IpAddr> {
    let inside = |ip: &Value| match ip.get("interface").and_then(Value::as_u64) {
        None => true,
        Some(number) => {
            let interface = result.pointer(&format!("/interfaces/{number}/sandbox")).and_then(Value::as_str);
            interface.is_some_and(|sandbox| Path::new(sandbox) == namespace)
        }
    };
    let ips = result.get("ips").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let texts = ips.iter().filter(|ip| inside(ip)).filter_map(|ip| ip.get("address")?.as_str());
    texts.filter_map(|text| text.split('/').next()?.parse().ok()).collect()
}

/// Whether a result names a half's link.
pub fn names(result: &Value, end: &End<'_>) -> bool {
    let interfaces = result.get("interfaces").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    interfaces.iter().any(|interface| {
        let of = |key| interface.get(key).and_then(Value::as_str);
        of("name") == Some(end.link) && of("sandbox").is_some_and(|sandbox| Path::new(sandbox) == end.namespace)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge() -> Value {
        json!({
            "cniVersion": "0.4.0",
            "interfaces": [{ "name": "cni0" }, { "name": "veth1" }, { "name": "eth0", "sandbox": "/n", "mtu": 1500 }],
            "ips": [
                { "address": "10.1.0.5/16", "interface": 2 },
                { "address": "10.1.0.1/16", "interface": 0 },
                { "address": "fd00::5/64" },
                { "address": "nonsense", "interface": 9 },
            ],
            "routes": [{ "dst": "0.0.0.0/0" }],
        })
    }

    #[test]
    fn what_was_said_before_is_passed_on() {
        let ends =
            [End { link: "link1", namespace: Path::new("/n") }, End { link: "link0", namespace: Path::new("/p") }];
        let result: Value = serde_json::from_str(&result(Some(&bridge()), "1.0.0", &ends)).unwrap();
        assert_eq!(result["cniVersion"], "1.0.0");
        assert_eq!(result["ips"], bridge()["ips"]);
        assert_eq!(result["routes"], bridge()["routes"]);
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 5);
        assert_eq!(result["interfaces"][2], bridge()["interfaces"][2]);
        assert_eq!(result["interfaces"][3], json!({ "name": "link1", "sandbox": "/n" }));
        assert!(names(&result, &ends[1]) && !names(&bridge(), &ends[1]));
    }

    #[test]
    fn nothing_added_is_nothing_changed() {
        let mut same = bridge();
        same["cniVersion"] = json!("1.1.0");
        assert_eq!(serde_json::from_str::<Value>(&result(Some(&bridge()), "1.1.0", &[])).unwrap(), same);
        let alone: Value = serde_json::from_str(&result(None, "1.1.0", &[])).unwrap();
        assert_eq!(alone["ips"], json!([]));
    }

    #[test]
    fn addresses_are_the_containers() {
        let expected: [IpAddr; 2] = ["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        assert_eq!(addresses(&bridge(), Path::new("/n")), expected);
        assert!(addresses(&json!({}), Path::new("/n")).is_empty());
    }
}
