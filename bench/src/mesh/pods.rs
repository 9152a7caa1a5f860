//! Pods, whole or split, the cable between two of them, and their Envoys.

use super::talk::{Caller, Server};
use crate::Plan;
use crate::error::{BenchError, io};
use crate::scratch::Scratch;
use crate::sockets::{Broker, OURS};
use os::ns::{self, Kinds};
use std::cell::{Cell, RefCell};
use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const APP: u16 = 8080;
/// Where the mesh's rules lead what leaves a Pod.
const OUTBOUND: u16 = 15001;
const CLIENT: &str = "10.80.0.1";
const SERVER: &str = "10.80.0.2";
/// Whom a mesh's proxy runs as.
const PROXY: &str = "1337";
/// What a mesh's init container writes, for a Pod in one place, and for `lichen net`.
const RULES: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
    -A PREROUTING -p tcp -j REDIRECT --to-ports 15006\n\
    -A OUTPUT -m owner --uid-owner 1337 -j RETURN\n-A OUTPUT -d 127.0.0.1/32 -j RETURN\n\
    -A OUTPUT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n";
const RULES_NFT: &str = "table ip mesh {\n\
    chain in { type nat hook prerouting priority -100; meta l4proto tcp redirect to :15006; }\n\
    chain out { type nat hook output priority -100; skuid 1337 return; ip daddr 127.0.0.1 return; \
    meta l4proto tcp redirect to :15001; }\n}\n";

/// Passes on what it gets to where it was to go.
const ENVOY: &str = include_str!("envoy.yaml");

/// The Envoy on the PATH.
pub fn envoy() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join("envoy")).find(|program| program.is_file())
}

/// Which processor apps and proxies of the two Pods are on: two different ones are two halves.
pub struct Layout<'a> {
    pub envoy: Option<&'a Path>,
    pub client: [usize; 2],
    pub server: [usize; 2],
    /// Whether apps and proxies have the library of sockets.
    pub library: bool,
}

/// The daemon of split networks, the broker of sockets, and a folder for everything.
pub struct World {
    lichen: PathBuf,
    folder: Scratch,
    daemon: Child,
    broker: Broker,
    made: Cell<usize>,
    /// Networks to be taken apart in the end.
    names: RefCell<Vec<String>>,
}

impl World {
    pub fn new(plan: &Plan<'_>) -> Result<Self, BenchError> {
        let folder = Scratch::new()?;
        // Proxies are other users.
        let open = fs::set_permissions(folder.path(), Permissions::from_mode(0o755));
        open.map_err(io("a folder for the measurement could not be opened"))?;
        let mut serve = Command::new(&plan.program);
        // Beside one that serves this machine.
        serve.args(["net", "serve", "--folder"]).arg(folder.path().join("net"));
        serve.arg("--users").arg(folder.path().join("users"));
        serve.stdout(Stdio::null()).stderr(Stdio::null());
        os::child::end_with_parent(&mut serve);
        let daemon = serve.spawn().map_err(|source| BenchError::Program { program: plan.program.clone(), source })?;
        let broker = Broker::of_all(&plan.program, &folder.path().join("net"))?;
        let (lichen, made, names) = (plan.program.clone(), Cell::new(0), RefCell::default());
        let world = Self { lichen, folder, daemon, broker, made, names };
        let socket = world.folder.path().join("net/socket");
        let until = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            if Instant::now() > until {
                return Err(BenchError::Broken("`lichen net serve` does not listen: it takes root".to_owned()));
            }
            crate::pause(Duration::from_millis(10));
        }
        Ok(world)
    }

    /// A network namespace, with its loopback device up.
    fn place(&self) -> Result<Place, BenchError> {
        let number = self.made.replace(self.made.get() + 1);
        Place::new(number).map_err(io("a network namespace could not be made: it takes root"))
    }

    /// Has `lichen net` do something.
    fn net(&self, arguments: &[&str]) -> Result<(), BenchError> {
        let folder = self.folder.path().join("net");
        done(Command::new(&self.lichen).arg("net").args(arguments).arg("--folder").arg(folder))
    }

    /// A program in a Pod, with the library or without.
    fn program(&self, place: &Place, program: impl AsRef<std::ffi::OsStr>, library: bool) -> Command {
        let mut command = place.command(program);
        if library {
            self.broker.dress(&mut command, OURS);
            // A proxy answers for an address that is not here: the ports say which connections that may be.
            command.env("LICHEN_SOCKET_PORTS", format!("{APP},{OUTBOUND}"));
        }
        command
    }

    /// Places for a Pod's programs: one, or two halves.
    fn pod(&self, split: bool) -> Result<Pod, BenchError> {
        let app = self.place()?;
        let proxy = if split { Some(self.place()?) } else { None };
        Ok(Pod { app, proxy })
    }

    /// Makes one network of two halves. The address is on the uplink's device already.
    fn join(&self, pod: &Pod, address: &str) -> Result<(), BenchError> {
        let Some(proxy) = &pod.proxy else { return Ok(()) };
        let name = pod.name();
        let halves = [format!("--half=cpu={}", pod.app.path.display()), format!("--half=dpu={}", proxy.path.display())];
        self.names.borrow_mut().push(name.clone());
        self.net(&["join", &name, &halves[0], &halves[1], "--uplink", "dpu", "--address", address])
    }

    /// Hands the Pod's connections to its proxy.
    fn capture(&self, pod: &Pod) -> Result<(), BenchError> {
        let text = if pod.proxy.is_some() { RULES } else { RULES_NFT };
        let rules = self.folder.path().join("rules");
        fs::write(&rules, text).map_err(io("the mesh's rules could not be written"))?;
        let rules = rules.display().to_string();
        match pod.proxy {
            Some(_) => self.net(&["capture", &pod.name(), "--proxy", "dpu", "--v4", &rules]),
            None => done(pod.app.command("nft").args(["-f", &rules])),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in self.names.borrow().iter() {
            let _ = self.net(&["leave", name]);
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A network namespace with a path, which lasts as long as this process: it leaves no mount behind, however that ends.
struct Place {
    number: usize,
    path: PathBuf,
    _namespace: File,
}

impl Place {
    fn new(number: usize) -> std::io::Result<Self> {
        let make = || {
            ns::unshare(Kinds::NET)?;
            os::netlink::loopback_up()?;
            File::open("/proc/thread-self/ns/net")
        };
        let made = std::thread::spawn(make).join();
        let namespace = made.map_err(|_| std::io::Error::other("the thread that makes it has panicked"))??;
        let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()).into();
        Ok(Self { number, path, _namespace: namespace })
    }

    /// A program there.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path.display())).arg(program);
        command
    }
}

struct Pod {
    app: Place,
    /// The other half, which has the uplink.
    proxy: Option<Place>,
}

impl Pod {
    fn uplink(&self) -> &Place {
        self.proxy.as_ref().unwrap_or(&self.app)
    }

    fn name(&self) -> String {
        format!("place{}", self.app.number)
    }
}

/// Two Pods, one cable, and an Envoy in each, if there are any.
pub struct Mesh<'a> {
    world: &'a World,
    client: Pod,
    _server: Pod,
    cpu: usize,
    library: bool,
    envoys: Vec<Child>,
    _app: Server,
}

impl<'a> Mesh<'a> {
    pub fn new(world: &'a World, layout: &Layout<'_>) -> Result<Self, BenchError> {
        let pods = [layout.client, layout.server].map(|cpus| world.pod(cpus[0] != cpus[1]));
        let [client, server] = pods;
        let (client, server) = (client?, server?);
        let peer = server.uplink().path.display().to_string();
        let cable = ["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &peer];
        done(client.uplink().command("ip").args(cable))?;
        for (pod, address) in [(&client, CLIENT), (&server, SERVER)] {
            let with_len = format!("{address}/24");
            done(pod.uplink().command("ip").args(["address", "add", &with_len, "dev", "eth0"]))?;
            done(pod.uplink().command("ip").args(["link", "set", "eth0", "up"]))?;
            world.join(pod, address)?;
        }
        let app = world.program(&server.app, &world.lichen, layout.library);
        let app = Server::start(app, layout.server[0], APP)?;
        let mut envoys = Vec::new();
        if let Some(envoy) = layout.envoy {
            for (pod, cpu) in [(&client, layout.client[1]), (&server, layout.server[1])] {
                envoys.push(start(envoy, world, (pod, cpu), layout.library)?);
                world.capture(pod)?;
            }
        }
        let (cpu, library) = (layout.client[0], layout.library);
        Ok(Self { world, client, _server: server, cpu, library, envoys, _app: app })
    }

    /// Somebody in the first Pod who calls the second one.
    pub fn caller(&self, many: usize) -> Result<Caller, BenchError> {
        let command = self.world.program(&self.client.app, &self.world.lichen, self.library);
        Caller::start(command, self.cpu, &format!("{SERVER}:{APP}"), many)
    }
}

impl Drop for Mesh<'_> {
    fn drop(&mut self) {
        for envoy in &mut self.envoys {
            let _ = envoy.kill();
            let _ = envoy.wait();
        }
    }
}

fn start(envoy: &Path, world: &World, (pod, cpu): (&Pod, usize), library: bool) -> Result<Child, BenchError> {
    let configuration = world.folder.path().join("envoy.yaml");
    fs::write(&configuration, ENVOY).map_err(io("Envoy's configuration could not be written"))?;
    let mut command = world.program(pod.uplink(), "taskset", library);
    os::child::end_with_parent(&mut command);
    // Another user's program forgets with whom it was to end, unless it is told to keep that.
    let proxy = ["setpriv", "--reuid", PROXY, "--regid", PROXY, "--clear-groups", "--pdeathsig", "keep"];
    command.args(["-c", &cpu.to_string()]).args(proxy);
    command.arg(envoy).arg("-c").arg(configuration);
    command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "off"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|source| BenchError::Program { program: envoy.to_owned(), source })
}

/// Runs a program to its end.
fn done(command: &mut Command) -> Result<(), BenchError> {
    let program = PathBuf::from(command.get_program());
    let output = command.output().map_err(|source| BenchError::Program { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(BenchError::Broken(format!("{command:?} failed: {}", said.trim())))
}
