"""Unmodified programs under `lichen socket run`: what they answer is what they answer without, byte for byte."""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from harness import BINARY, PATIENCE, eventually


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def needs(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    return unittest.skipIf(missing, f"not installed: {', '.join(missing)}")


class Socket(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lichen-socket-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.folder), "LICHEN_SOCKET_AFTER": "2"}

    def command(self, library, *words):
        return ([BINARY, "socket", "run", "--"] if library else []) + [str(word) for word in words]

    def serve(self, library, port, *words):
        """Starts a server, and waits until it answers at its port."""
        log = (self.folder / f"log-{port}").open("wb")
        server = subprocess.Popen(self.command(library, *words), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                  cwd=self.folder, env=self.environment, start_new_session=True)
        log.close()
        self.addCleanup(self.end, server)

        def answers():
            said = (self.folder / f"log-{port}").read_text(errors="replace")
            self.assertIsNone(server.poll(), said)
            with socket.socket() as caller:
                return caller.connect_ex(("127.0.0.1", port)) == 0

        eventually(answers, f"{words[0]} at its port")
        return server

    def end(self, server):
        try:
            os.killpg(server.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        server.wait()

    def run_client(self, library, *words, text=None):
        done = subprocess.run(self.command(library, *words), input=text, capture_output=True, timeout=PATIENCE * 2,
                              cwd=self.folder, env=self.environment)
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace")[-2000:])
        return done.stdout

    def mapped(self, server):
        """Whether a server, or a child of it, has memory of a pair."""
        group = subprocess.run(["ps", "-o", "pid=", "-g", str(server.pid)], capture_output=True, text=True).stdout
        maps = []
        for pid in group.split():
            try:
                maps.append(Path(f"/proc/{pid}/maps").read_text())
            except OSError:
                pass
        return any("lichen-pair" in text for text in maps)

    def same(self, start, act):
        """Has `act` talk to what `start` starts, without the library and with it: its answers are equal."""
        answers = []
        for library in (False, True):
            port = free_port()
            server = start(library, port)
            answers.append(act(library, port, server))
            self.end(server)
        self.assertEqual(answers[0], answers[1])
        self.assertTrue(answers[0])
        return answers[0]

    def python(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path


KEEPS_ALIVE = """
import hashlib, http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)
for turn in range(60):
    length = [10, 3000, 200000][turn % 3]
    body = bytes(turn + i % 7 for i in range(length))
    connection.request("POST", f"/{turn}", body)
    answer = connection.getresponse()
    got = answer.read()
    print(answer.status, len(got), hashlib.sha256(got).hexdigest())
"""

SERVES = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(2 * len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

ASYNC_SERVES = """
import asyncio, sys
async def talk(reader, writer):
    try:
        while True:
            length = int.from_bytes(await reader.readexactly(4), "little")
            body = await reader.readexactly(length)
            writer.write(body[::-1])
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()
async def main():
    server = await asyncio.start_server(talk, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""

ASYNC_CALLS = """
import asyncio, hashlib, sys
async def call(number):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    sums = hashlib.sha256()
    for turn in range(40):
        body = bytes((number + turn + i) % 251 for i in range([16, 5000, 100000][turn % 3]))
        writer.write(len(body).to_bytes(4, "little") + body)
        sums.update(await reader.readexactly(len(body)))
    writer.close()
    return sums.hexdigest()
async def main():
    print(*await asyncio.gather(*map(call, range(8))), sep="\\n")
asyncio.run(main())
"""

NODE_SERVES = """
require("http").createServer((request, response) => {
  const parts = []
  request.on("data", part => parts.push(part))
  request.on("end", () => response.end(Buffer.concat(parts).reverse()))
}).listen(+process.argv[2], "127.0.0.1")
"""


class Python(Socket):
    def test_http(self):
        server, client = self.python("server.py", SERVES), self.python("client.py", KEEPS_ALIVE)

        def act(library, port, process):
            said = self.run_client(library, sys.executable, client, port)
            self.assertEqual(self.mapped(process), library)
            return said

        self.same(lambda library, port: self.serve(library, port, sys.executable, server, port), act)

    def test_asyncio(self):
        server, client = self.python("server.py", ASYNC_SERVES), self.python("client.py", ASYNC_CALLS)

        def act(library, port, _):
            return self.run_client(library, sys.executable, client, port)

        self.same(lambda library, port: self.serve(library, port, sys.executable, server, port), act)


@needs("node")
class Node(Socket):
    def test_http(self):
        server, client = self.python("server.js", NODE_SERVES), self.python("client.py", KEEPS_ALIVE)

        def act(library, port, _):
            return self.run_client(library, sys.executable, client, port)

        self.same(lambda library, port: self.serve(library, port, "node", server, port), act)


@needs("redis-server", "redis-cli", "redis-benchmark")
class Redis(Socket):
    def start(self, library, port):
        # What one saves, the next would load.
        folder = self.folder / str(port)
        folder.mkdir()
        return self.serve(library, port, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
                          "--dir", folder)

    def test_answers(self):
        lines = []
        for turn in range(300):
            lines.append(f"set key{turn} {'v' * (turn * turn)}")
            lines.append(f"append key{turn} {turn}")
            lines.append(f"get key{turn // 2}")
            lines.append(f"lpush list {turn} {turn + 1}")
        lines += ["lrange list 0 -1", "bgsave", "get key299", "dbsize", "ping"]
        text = "\n".join(lines).encode() + b"\n"

        def act(library, port, _):
            return self.run_client(library, "redis-cli", "-p", port, text=text)

        self.same(self.start, act)

    def test_many_at_once(self):
        def act(library, port, _):
            words = ["redis-benchmark", "-p", port, "-t", "set,get,lrange_100", "-c", "20", "-n", "4000", "--csv"]
            one = self.run_client(library, *words).decode()
            pipelined = self.run_client(library, *words, "-P", "16", "-d", "1000").decode()
            return [line.split(",")[0] for line in (one + pipelined).splitlines() if line.startswith('"')]

        self.same(self.start, act)


@needs("memcached")
class Memcached(Socket):
    CLIENT = """
import hashlib, socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20) as connection:
    stream = connection.makefile("rwb")
    for turn in range(60):
        body = bytes(97 + (turn + i) % 26 for i in range([5, 2000, 300000][turn % 3]))
        stream.write(b"set key%d 0 0 %d\\r\\n%s\\r\\n" % (turn, len(body), body))
        stream.flush()
        print(stream.readline())
        stream.write(b"get key%d\\r\\n" % (turn // 2))
        stream.flush()
        head = stream.readline()
        rest = stream.read(int(head.split()[3]) + 2 + 5)
        print(head, hashlib.sha256(rest).hexdigest())
"""

    def test_sets_and_gets(self):
        client = self.python("client.py", self.CLIENT)

        def act(library, port, _):
            return self.run_client(library, sys.executable, client, port)

        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self.same(lambda library, port: self.serve(library, port, "memcached", "-l", "127.0.0.1", "-p", port, "-U", "0",
                                                   "-m", "64", *user), act)


@needs("nginx", "curl", "ab")
class Nginx(Socket):
    CONFIGURATION = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 2; {user}
events {{ worker_connections 256; }}
http {{
  access_log off; keepalive_requests 100000; sendfile on;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  upstream self {{ server 127.0.0.1:{port}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port}; root {folder}/www;
    location /proxy/ {{ proxy_pass http://self/; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""

    def start(self, library, port):
        path = self.folder / f"nginx-{port}.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        path.write_text(self.CONFIGURATION.format(folder=self.folder, port=port, user=user))
        return self.serve(library, port, "nginx", "-c", path)

    def test_files_and_proxy(self):
        (self.folder / "www").mkdir()
        for length in (100, 70_000, 1_500_000):
            (self.folder / "www" / str(length)).write_bytes(bytes((i * 31 + i // 251) % 256 for i in range(length)))

        def act(library, port, _):
            addresses = [f"http://127.0.0.1:{port}/{way}{length}"
                         for way in ("", "proxy/") for length in (100, 70_000, 1_500_000) for _ in range(4)]
            sums = hashlib.sha256(self.run_client(library, "curl", "-sS", "--fail", *addresses)).hexdigest()
            said = [sums]
            for address in addresses[:1] + addresses[4:5] + addresses[12:13]:
                report = self.run_client(library, "ab", "-k", "-n", "1000", "-c", "10", address).decode()
                said += re.findall(r"(?:Complete|Failed) requests:\s+\d+|HTML transferred:\s+\d+", report)
            return said

        said = self.same(self.start, act)
        self.assertEqual(said[2].split()[-1], "0")


def postgres(name):
    """A program of PostgreSQL: Debian has most of them in a folder of their own."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


class Bench(unittest.TestCase):
    """`lichen bench socket`, that does not come to its end."""

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="lichen-bench-test-")))

    def start(self, *words, **more):
        bench = subprocess.Popen([BINARY, "bench", *words], env={**os.environ, "TMPDIR": str(self.folder)},
                                 stderr=subprocess.PIPE, text=True, **more)
        self.addCleanup(bench.stderr.close)
        self.addCleanup(bench.wait)
        self.addCleanup(bench.kill)
        return bench

    def test_what_is_killed_leaves_no_program_and_no_folder(self):
        for number in signal.SIGTERM, signal.SIGKILL:
            bench = self.start("--quick", "socket", "--only", "socket-latency", stdout=subprocess.DEVNULL)
            while "round trips" not in bench.stderr.readline():
                self.assertIsNone(bench.poll())
            programs = Path(f"/proc/{bench.pid}/task/{bench.pid}/children").read_text().split()
            self.assertGreater(len(programs), 10)
            self.assertTrue(list(self.folder.iterdir()))
            bench.send_signal(number)
            bench.wait()
            eventually(lambda: not [pid for pid in programs if Path(f"/proc/{pid}").exists()], "its programs have ended")
            eventually(lambda: not list(self.folder.iterdir()), "its folder is gone")

    def test_nobody_reads_what_it_says(self):
        for words, wanted in (["--list"], 0), (["--quick", "socket", "--only", "socket-modes"], 0):
            ear, mouth = os.pipe()
            os.close(ear)
            bench = self.start(*words, stdout=mouth)
            os.close(mouth)
            said = bench.stderr.read()
            self.assertEqual(bench.wait(), wanted, said)
            self.assertNotIn("panicked", said)


@unittest.skipUnless(all(map(postgres, ("initdb", "postgres", "pgbench", "psql"))), "not installed: PostgreSQL")
class PostgreSQL(Socket):
    """A process for each connection, that the first one has forked."""

    SUMS = """select count(*), sum(abalance) from pgbench_accounts; select sum(bbalance) from pgbench_branches;
        select sum(tbalance) from pgbench_tellers; select count(*), sum(delta), min(delta), max(delta) from pgbench_history;
        select repeat('a long line ', 100000); select md5(string_agg(aid || ':' || abalance, ',' order by aid)) from pgbench_accounts"""

    def test_pgbench(self):
        # It does not want to be root: for itself it is not.
        other = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
        self.environment |= {"PGUSER": "lichen", "PGHOST": "127.0.0.1", "PGDATABASE": "postgres", "TZ": "UTC"}
        template = self.folder / "template"
        subprocess.run([*other, postgres("initdb"), "-D", template, "-U", "lichen", "-A", "trust", "--no-sync", "--no-locale"],
                       check=True, capture_output=True)

        def start(library, port):
            folder = shutil.copytree(template, self.folder / f"data-{port}")
            server = self.serve(library, port, *other, postgres("postgres"), "-D", folder, "-p", port, "-h", "127.0.0.1",
                                "-F", "-c", f"unix_socket_directories={folder}")
            ready = [postgres("psql"), "-p", str(port), "-Atc", "select 1"]
            eventually(lambda: subprocess.run(ready, capture_output=True, env={**os.environ, **self.environment}).returncode == 0,
                       "a database that has started")
            return server

        def act(library, port, _):
            pgbench = [postgres("pgbench"), "-p", port]
            self.run_client(library, *pgbench, "-i", "-q", "-s", "1")
            said = [self.run_client(library, *pgbench, "--random-seed=42", "-n", "-t", "200", "-c", clients, *more).decode()
                    for clients, more in ((4, ["-j", "2"]), (1, ["-M", "prepared"]), (4, ["-S", "-C"]))]
            sums = self.run_client(library, postgres("psql"), "-p", port, "-At", "-c", self.SUMS)
            return [re.findall(r"transactions actually processed: .*|failed transactions: \d+", text) for text in said], sums

        self.same(start, act)


GO = """
package main
import ("crypto/sha256"; "fmt"; "io"; "net/http"; "os"; "strings")
func main() {
    if os.Args[1] == "serve" {
        http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { body, _ := io.ReadAll(r.Body); w.Write(body); w.Write(body) })
        panic(http.ListenAndServe("127.0.0.1:" + os.Args[2], nil))
    }
    for turn := 0; turn < 60; turn++ {
        body := strings.Repeat(string(rune('a' + turn % 26)), []int{10, 3000, 200000}[turn % 3])
        answer, err := http.Post("http://127.0.0.1:" + os.Args[2], "text/plain", strings.NewReader(body))
        if err != nil { panic(err) }
        got, err := io.ReadAll(answer.Body)
        fmt.Printf("%d %d %x %v\\n", answer.StatusCode, len(got), sha256.Sum256(got), err)
        answer.Body.Close()
    }
}
"""


@needs("go")
class Go(Socket):
    """Static, and past libc: over TCP, as if there were no library; and so is what others send to it."""

    def setUp(self):
        super().setUp()
        self.program = self.folder / "program"
        environment = {**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "off", "GOCACHE": str(self.folder / "cache"),
                       "GOFLAGS": ""}
        subprocess.run(["go", "build", "-o", self.program, self.python("main.go", GO)], check=True, env=environment)

    def start(self, library, port):
        return self.serve(library, port, self.program, "serve", port)

    def test_itself(self):
        self.same(self.start, lambda library, port, _: self.run_client(library, self.program, "call", port))

    def test_with_python(self):
        client = self.python("client.py", KEEPS_ALIVE)
        self.same(self.start, lambda library, port, _: self.run_client(library, sys.executable, client, port))


@needs("envoy", "nginx", "curl", "ab")
class Envoy(Nginx):
    """Between curl and nginx: a proxy with threads, epoll sets by edges, and descriptors that it makes twice."""

    BETWEEN = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          http_protocol_options: {{accept_http_10: true}}
          route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: nginx}}}}]}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: nginx
    type: STATIC
    load_assignment:
      cluster_name: nginx
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {behind}}}}}}}}}]}}]
"""

    def start(self, library, port):
        behind = free_port()
        self.addCleanup(self.end, super().start(library, behind))
        path = self.folder / f"envoy-{port}.yaml"
        path.write_text(self.BETWEEN.format(port=port, behind=behind))
        return self.serve(library, port, "envoy", "-c", path, "--concurrency", "2", "--disable-hot-restart", "-l", "warn")


def children(process):
    """Processes whose parent this one is, by their numbers."""
    said = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
    return [int(word) for word in said.split()]


def descriptors(pid):
    """What a process has open, by what the kernel calls it."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(link))
        except OSError:
            pass
    return found


@needs("gcc", "ps")
class Storm(Socket):
    """For a minute: `LICHEN_STORM_SECONDS=60 LICHEN_STORM_CALLS=100000`."""

    SECONDS = int(os.environ.get("LICHEN_STORM_SECONDS", "2"))
    CALLS = int(os.environ.get("LICHEN_STORM_CALLS", "2400"))

    def setUp(self):
        super().setUp()
        self.program = self.folder / "storm"
        source = Path(__file__).parent / "fixtures/storm.c"
        subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-pthread", "-o", self.program, source], check=True)

    def test_bytes_that_change_ways(self):
        words = self.command(True, self.program, "migrate", self.SECONDS, 4)
        done = subprocess.run(words, capture_output=True, text=True, timeout=self.SECONDS * 2 + PATIENCE, env=self.environment)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        turns = int(re.search(r"(\d+) turns a second", done.stdout)[1])
        if self.SECONDS > 10:
            print(done.stdout.strip())
        self.assertGreater(turns, 0)

    def start_call(self, port, count):
        return subprocess.Popen(self.command(True, self.program, "call", port, count), env=self.environment,
                                stdout=subprocess.PIPE, text=True, start_new_session=True)

    def kill_program(self, process):
        """Kills what `lichen socket run` runs, not itself: it ends then, as that did."""
        for pid in eventually(lambda: children(process) or process.poll() is not None and [0], "a program that runs"):
            # One may have ended by itself meanwhile.
            with contextlib.suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, signal.SIGKILL)
        process.wait(PATIENCE)

    def start_broker(self):
        """One that does nothing else: it is the broker, unless another one is."""
        waits = subprocess.Popen(self.command(True, "sh", "-c", "echo ready; exec cat"), stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, env=self.environment, start_new_session=True)
        self.addCleanup(self.end, waits)
        self.addCleanup(waits.stdin.close)
        self.addCleanup(waits.stdout.close)
        waits.stdout.readline()
        return waits

    def victims(self, rounds):
        """Who is killed in which round: one of each by all means, and in a longer storm somebody in two rounds of three."""
        seed = int(os.environ.get("LICHEN_STORM_SEED", time.time_ns() % 1_000_000))
        if rounds > 8:
            print(f"LICHEN_STORM_SEED={seed}")
        draw = random.Random(seed)
        drawn = {turn: draw.choice(["caller", "broker", "server"]) for turn in range(8, rounds - 1) if turn % 3}
        return draw, {1: "caller", 3: "broker", 5: "server", **drawn}

    def test_short_connections_and_kills(self):
        """All that is killed leaves nothing: neither with the broker, nor with a server that has outlived it."""
        broker, port = self.start_broker(), free_port()
        server = self.serve(True, port, self.program, "serve", port)
        rounds = max(8, self.CALLS // 2000)
        draw, victims = self.victims(rounds)
        done, killed = 0, 0
        for turn in range(rounds):
            calls = [self.start_call(port, self.CALLS // rounds // 2) for _ in range(2)]
            for call in calls:
                # It has begun.
                call.stdout.readline()
            if turn == 0:
                eventually(lambda: self.mapped(server), "a connection that has memory")
            elif turn in victims:
                try:
                    calls[0].wait(draw.random() / 2)
                except subprocess.TimeoutExpired:
                    pass
            if victims.get(turn) == "caller":
                self.kill_program(calls[0])
            elif victims.get(turn) == "broker":
                # From now on one of those who wait is the broker: this one, the server's, or a caller's until it ends.
                broker.kill()
                broker.wait()
                broker = self.start_broker()
            elif victims.get(turn) == "server":
                self.kill_program(server)
                for call in calls:
                    call.wait(PATIENCE)
                server = self.serve(True, port, self.program, "serve", port)
            elif turn == rounds - 1:
                eventually(lambda: self.held(broker, server), "memory that a broker has given")
            for call in calls:
                status = call.wait(self.CALLS / 50 + PATIENCE)
                call.stdout.close()
                # 3: the server was gone. 1 would be other bytes than those that were sent.
                self.assertIn(status, (0, 3, 128 + signal.SIGKILL))
                done, killed = done + (status == 0), killed + (status != 0)
        harmed = sum(2 if victim == "server" else victim == "caller" for victim in victims.values())
        self.assertGreaterEqual(done, 2 * rounds - harmed)
        [program] = children(server)
        # The last caller's memory stays with a server until it has received what was sent.
        left = eventually(lambda: self.is_clean(program), "a server without what its callers had", 90)
        self.assertLess(left, 40)
        eventually(lambda: self.held(broker, server) == 0, "a broker without memory of those who are gone", 90)
        self.assertLess(max(len(descriptors(one.pid)) for one in (broker, server)), 24)
        listed = json.loads(self.run_client(False, BINARY, "socket", "ls", "-o", "json"))
        self.assertEqual([one for one in listed["connections"] if any(str(port) in end["address"] for end in one["ends"])], [])
        self.kill_program(server)
        if rounds > 8:
            print(f"{self.CALLS} connections, {done} callers came to their end, {killed} did not; {left} descriptors are left")

    def is_clean(self, program):
        """How many descriptors a server has to which nobody talks, once it has no connection."""
        found = descriptors(program)
        sockets = [name for name in found if name.startswith("socket:")]
        return len(found) if len(sockets) < 8 else None

    def held(self, *brokers):
        """Memories that they have, of whom one is the broker."""
        return sum("lichen-pair" in name for broker in brokers for name in descriptors(broker.pid))
