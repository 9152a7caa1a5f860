//! nginx, and Envoy before it, called by wrk.

use super::stage::{Reading, Server, Stage, free_port};
use super::unclear;
use crate::error::{BenchError, io};
use crate::scratch::Scratch;
use crate::sockets::How;
use std::path::Path;

/// What wrk asks nginx for: a name, bytes, connections.
const PAGES: [(&str, usize, u32); 3] = [("1 KiB", 1 << 10, 16), ("1 KiB", 1 << 10, 1), ("200 KiB", 200 << 10, 8)];
/// And Envoy, which passes HTTP on, or bytes.
const PASSED: [(&str, usize, u32, Passes); 4] = [
    ("1 KiB", 1 << 10, 16, Passes::Http),
    ("1 KiB", 1 << 10, 1, Passes::Http),
    ("200 KiB", 200 << 10, 8, Passes::Http),
    ("200 KiB", 200 << 10, 8, Passes::Bytes),
];
const ENVOY: &str = include_str!("envoy.yaml");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passes {
    Http,
    Bytes,
}

/// A page that is asked for over so many connections.
struct Page {
    bytes: usize,
    connections: u32,
    passes: Passes,
}

/// nginx, alone or behind an Envoy.
struct Site {
    nginx: Server,
    /// And where that passes bytes on.
    envoy: Option<(Server, u16)>,
}

/// nginx alone.
pub fn direct(stage: &mut Stage<'_>, server: &Path, caller: &Path) -> Result<(), BenchError> {
    let pages = PAGES.map(|(page, bytes, connections)| {
        (name("wrk", page, connections), Page { bytes, connections, passes: Passes::Http })
    });
    measure(stage, (server, None), caller, &pages)
}

/// nginx behind Envoy.
pub fn behind(stage: &mut Stage<'_>, server: &Path, envoy: &Path, caller: &Path) -> Result<(), BenchError> {
    let pages = PASSED.map(|(page, bytes, connections, passes)| {
        let what = if passes == Passes::Http { "wrk, Envoy, nginx" } else { "wrk, Envoy as TCP proxy, nginx" };
        (name(what, page, connections), Page { bytes, connections, passes })
    });
    measure(stage, (server, Some(envoy)), caller, &pages)
}

fn name(what: &str, page: &str, connections: u32) -> String {
    let s = if connections == 1 { "" } else { "s" };
    format!("{what}, {connections} connection{s}, {page}")
}

fn measure(
    stage: &mut Stage<'_>,
    (server, envoy): (&Path, Option<&Path>),
    caller: &Path,
    pages: &[(String, Page)],
) -> Result<(), BenchError> {
    let folder = Scratch::new()?;
    for (_, Page { bytes, .. }) in pages {
        let page = std::fs::write(folder.path().join(bytes.to_string()), vec![b'x'; *bytes]);
        page.map_err(io("a page could not be written"))?;
    }
    // Whoever nginx becomes is to read them.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).map_err(io("a folder could not be opened"))?;
    let mut sites = Vec::new();
    for how in stage.ways() {
        let nginx = start_nginx(stage, &folder, how, server)?;
        let envoy = envoy.map(|envoy| start_envoy(stage, &folder, how, envoy, nginx.port)).transpose()?;
        sites.push((how, Site { nginx, envoy }));
    }
    stage.measure(pages, &sites, |stage, how, page, site| {
        let port = match &site.envoy {
            None => site.nginx.port,
            Some((envoy, _)) if page.passes == Passes::Http => envoy.port,
            Some((_, bytes)) => *bytes,
        };
        let address = format!("http://127.0.0.1:{port}/{}", page.bytes);
        let connections = format!("-c{}", page.connections);
        let said = stage.ask(how, caller, &["-t1", &connections, "-d1s", "--latency", &address])?;
        of_wrk(&said).ok_or_else(|| unclear(caller, &said))
    })
}

fn start_nginx(stage: &Stage<'_>, folder: &Scratch, how: How, program: &Path) -> Result<Server, BenchError> {
    let place = folder.path();
    stage.serve(how, program, |command, port| {
        let file = place.join(format!("{port}.conf"));
        let text = format!(
            "daemon off; master_process off; error_log /dev/null; pid {place}/{port}.pid; events {{ worker_connections 512; }}
             http {{ access_log off; sendfile on; keepalive_requests 1000000000; client_body_temp_path {place}/{port}.body;
             server {{ listen 127.0.0.1:{port}; root {place}; }} }}",
            place = place.display()
        );
        // A file that is not there is said by nginx, which does not listen.
        let _ = std::fs::write(&file, text);
        command.arg("-c").arg(file);
    })
}

/// One worker, as nginx and wrk have.
fn start_envoy(
    stage: &Stage<'_>,
    folder: &Scratch,
    how: How,
    program: &Path,
    behind: u16,
) -> Result<(Server, u16), BenchError> {
    let bytes = free_port()?;
    let server = stage.serve(how, program, |command, port| {
        let file = folder.path().join(format!("{port}.yaml"));
        let ports = [("HTTP_PORT", port), ("BYTES_PORT", bytes), ("NGINX_PORT", behind)];
        let text = ports.iter().fold(ENVOY.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
        // A file that is not there is said by Envoy, which does not listen.
        let _ = std::fs::write(&file, text);
        command.arg("-c").arg(file).args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "off"]);
    })?;
    Ok((server, bytes))
}

/// Nothing, too, where nothing was answered.
fn of_wrk(said: &str) -> Option<Reading> {
    let behind = |what: &str| said.lines().find_map(|line| line.trim().strip_prefix(what)).map(str::trim);
    let rate = behind("Requests/sec:")?.parse().ok().filter(|rate: &f64| *rate > 0.0)?;
    let slow = behind("99%")?;
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
    let (number, unit) = units.into_iter().find_map(|(unit, ms)| Some((slow.strip_suffix(unit)?, ms)))?;
    let count = |what: &str| -> u64 {
        let numbers = behind(what).unwrap_or_default().split(|letter: char| !letter.is_ascii_digit());
        numbers.filter_map(|number| number.parse::<u64>().ok()).sum()
    };
    let failed = count("Socket errors:") + count("Non-2xx or 3xx responses:");
    Some(Reading { rate, slow: number.parse::<f64>().ok()? * unit, failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_understood() {
        let wrk =
            "  Latency Distribution\n     50%   12.00us\n     99%  250.00us\n  1 requests\nRequests/sec:  16097.76\n";
        assert_eq!(of_wrk(wrk), Some(Reading { rate: 16097.76, slow: 0.25, failed: 0 }));
        let bad = "  Socket errors: connect 0, read 2, write 0, timeout 1\n  Non-2xx or 3xx responses: 40\n";
        let read = of_wrk(&format!("{bad}Requests/sec: 1\n 99% 1.50s"));
        assert_eq!(read, Some(Reading { rate: 1.0, slow: 1500.0, failed: 43 }));
        assert_eq!((of_wrk("refused"), of_wrk("Requests/sec: 0.00\n 99% 0.00us")), (None, None));
    }
}
