"""Pure functions: deployed, invoked by Lambda's API and by /v1, hostile ones, and what is left of them.

The programs are those of guest/examples, as `make guest` builds them; without them the tests are skipped.
"""

import base64
import concurrent.futures
import http.client
import json
import os
import signal
import socket
import tempfile
import time
import unittest
import urllib.parse
from pathlib import Path

from harness import REPOSITORY, Node, eventually, invoke, lichen, zip_of

GUESTS = REPOSITORY / ".build/guest"
ROLE = "arn:aws:iam::000000000000:role/test"
ENGINE = "lichen-engine"
# Modes of guest/examples/hostile.c, and what each is an error of.
HOSTILE = {
    "loop": {"Pure.Timeout"},
    "loop-memory": {"Pure.Timeout"},
    "trap": {"Pure.Trap", "Pure.Signal"},
    "wild": {"Pure.Trap", "Pure.Signal"},
    "stack": {"Pure.StackOverflow", "Pure.Trap", "Pure.Signal"},
    "exit7": {"Pure.Exit"},
    "bomb": {"Pure.OutputTooLarge", "Pure.OutOfMemory", "Pure.TooManyItems", "Pure.Trap", "Pure.Exit", "Pure.Timeout"},
}


def named(name):
    """The processes of this name, zombies aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text()
            except OSError:
                continue
            if f"({name})" in fields and fields.rpartition(")")[2].split()[0] not in "ZX":
                found.append(int(entry.name))
    return found


def descendants(root):
    """All processes below this one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    below, size = {root}, 0
    while len(below) > size:
        size = len(below)
        below |= {pid for pid, parent in parents.items() if parent in below}
    return below


def long_to_compile(salt, functions=80, steps=5000):
    """A module of 4 MB that does nothing: its functions, which nobody calls, are long chains of sums and products."""

    def number(n):
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + number(n >> 7)

    def section(n, parts):
        inside = number(len(parts)) + b"".join(parts)
        return bytes([n]) + number(len(inside)) + inside

    def function(body):
        return number(len(body)) + body

    local = b"\x01\x02\x7e"
    step = [b"\x20\x00\x42%c\x7e\x20\x01\x7c\x21%c" % ((7 * n + salt) % 63 + 1, n % 2) for n in range(steps)]
    bodies = [function(local + b"".join(step) + b"\x0b")] * functions + [function(b"\x00\x0b")]
    exports = [b"\x06_start\x00" + number(functions), b"\x06memory\x02\x00"]
    sections = [(1, [b"\x60\x00\x00"]), (3, [b"\x00"] * len(bodies)), (5, [b"\x00\x01"]), (7, exports), (10, bodies)]
    return b"\x00asm\x01\x00\x00\x00" + b"".join(section(*one) for one in sections)


def call(node, method, path, body):
    """The status of the answer, and what it brings."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(node.endpoint).netloc, timeout=60)
    try:
        connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


class Pure(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not (GUESTS / "echo.wasm").exists():
            raise unittest.SkipTest("there are no guests: `make guest` builds them")
        cls.node = Node()
        cls.addClassCleanup(cls.node.stop)
        cls.api = cls.node.client()
        cls.kinds = {"wasm": "wasm", "native": "elf"}
        if os.uname().machine != "x86_64":
            del cls.kinds["native"]
        for kind, ending in cls.kinds.items():
            for guest in ("echo", "hostile"):
                cls.create(f"{guest}-{kind}", kind, (GUESTS / f"{guest}.{ending}").read_bytes())

    @classmethod
    def create(cls, name, kind, code, **settings):
        settings = {"Timeout": 2, "MemorySize": 128, **settings}
        cls.api.create_function(
            FunctionName=name, Runtime=kind, Handler="f", Role=ROLE, Code={"ZipFile": zip_of({"f": code})}, **settings
        )

    def post(self, name, body, timeout=60):
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.node.endpoint).netloc, timeout=timeout)
        try:
            connection.request("POST", f"/v1/functions/{name}/invoke", body)
            reply = connection.getresponse()
            return reply.status, reply.read(), reply.headers["content-type"]
        finally:
            connection.close()

    def engines(self):
        return [pid for pid in named(ENGINE) if pid in descendants(self.node.process.pid)]

    def test_bodies_and_sets(self):
        for kind in self.kinds:
            with self.subTest(kind):
                status, body, _ = self.post(f"echo-{kind}", b"hello")
                self.assertEqual((status, body), (200, b"hello"), body)
                status, body, content = self.post(f"echo-{kind}", b"\xff\x00")
                self.assertEqual((status, body, content), (200, b"\xff\x00", "application/octet-stream"))
                sets = {"sets": {"in": [{"name": "x", "key": 7, "text": "one"}, "two"]}}
                status, body, _ = self.post(f"echo-{kind}", json.dumps(sets))
                (items,) = json.loads(body)["sets"].values()
                self.assertEqual((status, sorted(item["text"] for item in items)), (200, ["one", "two"]))
                large = os.urandom(3 << 20)
                self.assertEqual(self.post(f"echo-{kind}", large)[:2], (200, large))

    def test_long_answers_are_what_they_are(self):
        json_text = json.dumps(["x" * 70_000, 1]).encode()
        for kind in self.kinds:
            for body, content in (
                ("é".encode() * 50_001, "text/plain; charset=utf-8"),
                (b"x" * 99_999 + b"\xc3", "application/octet-stream"),
                (json_text, "application/json"),
                (json_text[:-1], "text/plain; charset=utf-8"),
            ):
                with self.subTest(kind=kind, content=content):
                    self.assertEqual(self.post(f"echo-{kind}", body), (200, body, content))
            form = {"sets": {"in": [{"name": "a", "text": "1"}, {"name": "b", "text": "2" * 90_000}]}}
            status, sets, content = self.post(f"echo-{kind}", json.dumps(form))
            items = [item["text"] for found in json.loads(sets)["sets"].values() for item in found]
            self.assertEqual((status, content, sorted(items)), (200, "application/json", ["1", "2" * 90_000]))

    def test_a_slow_client_gets_its_own_answer_whatever_others_do(self):
        address = urllib.parse.urlsplit(self.node.endpoint)
        for kind in self.kinds:
            slow = []
            for _ in range(4):
                body = os.urandom(2 << 20)
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(60)
                client.connect((address.hostname, address.port))
                head = f"POST /v1/functions/echo-{kind}/invoke HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
                client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
                self.addCleanup(client.close)
                slow.append((client, body, client.recv(12)))
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                others = [os.urandom(100_000 + at) for at in range(100)]
                answers = list(pool.map(lambda body: self.post(f"echo-{kind}", body)[:2], others))
            self.assertTrue(all(answer == (200, body) for answer, body in zip(answers, others, strict=True)))
            # What is on its way needs its engine no more.
            for engine in self.engines():
                os.kill(engine, signal.SIGKILL)
            for client, body, answer in slow:
                while more := client.recv(1 << 20):
                    answer += more
                self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer[:200])
                self.assertTrue(answer.endswith(b"\r\n\r\n" + body), "another answer than its own")
            eventually(lambda: self.post(f"echo-{kind}", b"x")[0] == 200, "an engine is there again")

    def test_files_and_arguments_come_with_the_code_that_lambda_is_given(self):
        tool = GUESTS / "tool.wasm"
        if not tool.exists():
            self.skipTest("tool.wasm was not built: `make guest` says what it lacks")
        said = 'arguments = ["tool", "cat", "/in/words/a", "/in/in/body"]\n[sets]\nwords = "data/words"\n'
        package = lambda text: zip_of({"f": tool.read_bytes(), "function.toml": said, "data/words/a": text})  # noqa: E731
        self.api.create_function(FunctionName="own", Runtime="wasm", Handler="f", Role=ROLE, Code={"ZipFile": package("one, ")})
        self.assertEqual(self.post("own", b"two")[:2], (200, b"one, two"))
        self.api.update_function_code(FunctionName="own", ZipFile=package("three, "))
        self.assertEqual(self.post("own", b"two")[:2], (200, b"three, two"))
        status, body, _ = self.post("own", '{"sets": {"words": [{"name": "a", "text": "not its own, "}], "in": ["x"]}}')
        self.assertEqual((status, json.loads(body)["errorType"]), (502, "Pure.BadInput"), body)

    def test_lambda_invokes(self):
        for kind in self.kinds:
            with self.subTest(kind):
                answer = invoke(self.api, f"echo-{kind}", {"a": [1, 2]}, log=True)
                self.assertEqual((answer.value, answer.failed), ({"a": [1, 2]}, False))
                self.assertIn("REPORT RequestId:", answer.log)
                answer = invoke(self.api, f"hostile-{kind}", {"sets": {"in": ["exit7"]}}, log=True)
                self.assertTrue(answer.failed)
                self.assertEqual(answer.value["errorType"], "Pure.Exit")
                self.assertIn(f"hostile-{kind}", answer.value["errorMessage"])

    def test_the_command_line(self):
        program = GUESTS / "count.wasm"
        done = lichen("deploy", program, "--name", "counted", endpoint=self.node.endpoint)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = lichen("invoke", "counted", "-d", '"two words"', endpoint=self.node.endpoint)
        self.assertEqual(done.returncode, 0, done.stderr)
        # A program of another name, and of another kind.
        done = lichen("deploy", GUESTS / "echo.wasm", "--name", "counted", endpoint=self.node.endpoint)
        self.assertEqual((done.returncode, self.post("counted", b"x")[1]), (0, b"x"), done.stderr)
        if "native" in self.kinds:
            line = ["deploy", GUESTS / "echo.elf", "--name", "counted", "--runtime", "native"]
            done = lichen(*line, endpoint=self.node.endpoint)
            self.assertEqual((done.returncode, self.post("counted", b"y")[1]), (0, b"y"), done.stderr)
        nonsense = self.node.folder / "nonsense.wasm"
        nonsense.write_bytes(b"\0asm nonsense")
        done = lichen("deploy", nonsense, "--name", "nonsense", endpoint=self.node.endpoint)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("cannot run", done.stderr)

    def test_code_that_is_none_is_refused(self):
        for kind in self.kinds:
            with self.subTest(kind), self.assertRaises(self.api.exceptions.InvalidParameterValueException):
                self.create(f"bad-{kind}", kind, b"nonsense")
            with self.subTest(kind), self.assertRaises(self.api.exceptions.InvalidParameterValueException) as refused:
                self.api.create_function(
                    FunctionName="absent", Runtime=kind, Handler="g", Role=ROLE, Code={"ZipFile": zip_of({"f": b"x"})}
                )
            self.assertIn("no file g", str(refused.exception))

    def test_code_that_is_long_to_compile_holds_up_its_like_alone(self):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            slow = [pool.submit(self.create, f"slow-{n}", "wasm", long_to_compile(n)) for n in range(2)]
            eventually(lambda: set(named("lichen-compiler")) & set(descendants(self.node.process.pid)), "a compiler")
            self.create("quick", "wasm", (GUESTS / "count.wasm").read_bytes())
            self.api.get_waiter("function_active_v2").wait(FunctionName="quick", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
            states = [self.api.get_function(FunctionName=f"slow-{n}")["Configuration"]["State"] for n in range(2) if slow[n].done()]
            self.assertLess(states.count("Active"), 2, "both were compiled before the quick one")
            self.assertEqual(self.post("quick", b"two words")[0], 200)
            for n, created in enumerate(slow):
                created.result(timeout=120)
                self.api.get_waiter("function_active_v2").wait(FunctionName=f"slow-{n}", WaiterConfig={"Delay": 0.1, "MaxAttempts": 1200})
                self.assertEqual(self.post(f"slow-{n}", b"")[0], 200)

    def test_hostile_ones_are_errors_and_neighbours_go_on(self):
        for kind in self.kinds:
            for mode, expected in HOSTILE.items():
                with self.subTest(kind=kind, mode=mode):
                    status, body, _ = self.post(f"hostile-{kind}", mode)
                    self.assertIn(json.loads(body)["errorType"], expected, body)
                    self.assertEqual(status, 504 if b"Pure.Timeout" in body else 502)
                    self.assertEqual(self.post(f"echo-{kind}", b"still here")[1], b"still here")

    def endless(self, name, kind):
        """More runs without an end than there are engines: who waits for them, and whether there still are any."""
        self.create(name, kind, (GUESTS / f"hostile.{self.kinds[kind]}").read_bytes(), Timeout=60)
        address = urllib.parse.urlsplit(self.node.endpoint)
        clients = []
        for _ in range(3 * (os.cpu_count() or 1)):
            client = socket.create_connection((address.hostname, address.port))
            head = f"POST /v1/functions/{name}/invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n"
            client.sendall(head.encode() + b"loop")
            clients.append(client)
        busy = lambda: any(shown["busy"] > 0 for shown in self.instances(name))
        eventually(busy, "the runs go on")
        return clients, busy

    def test_neighbours_do_not_wait_for_runs_without_an_end(self):
        waiting = [self.endless(f"hog-{kind}", kind) for kind in self.kinds]
        begun = time.monotonic()
        for kind, ending in self.kinds.items():
            # One that is known, and one that nobody has heard of.
            self.create(f"new-{kind}", kind, (GUESTS / f"echo.{ending}").read_bytes())
            for _ in range(10):
                self.assertEqual(self.post(f"echo-{kind}", b"short")[1], b"short")
                self.assertEqual(self.post(f"new-{kind}", b"short")[1], b"short")
        took = time.monotonic() - begun
        self.assertTrue(any(busy() for _, busy in waiting), "they go on all the while")
        for client in (client for clients, _ in waiting for client in clients):
            client.close()
        self.assertLess(took, 30, "a run that hogs its engine has 60 s")
        for _, busy in waiting:
            eventually(lambda: not busy(), "the runs have ended")

    def test_nor_do_those_that_take_long_themselves(self):
        hogs = [self.endless(f"forever-{n}-{kind}", kind) for n in range(5) for kind in self.kinds]
        size = 768
        matrix = size.to_bytes(8, "little") + bytes(8 * size * size)
        took = []
        for kind, ending in self.kinds.items():
            self.create(f"product-{kind}", kind, (GUESTS / f"matmul.{ending}").read_bytes(), Timeout=60)
            for _ in range(4):
                begun = time.monotonic()
                self.assertEqual(self.post(f"product-{kind}", matrix)[1], matrix)
                took.append(time.monotonic() - begun)
        pus = json.loads(call(self.node, "GET", "/v1/pus", None)[1])
        own = [engine for pu in pus for engine in pu["engines"] if "number" in engine]
        self.assertTrue(own, "those without an end have engines of their own")
        self.assertTrue(any(busy() for _, busy in hogs), "they go on all the while")
        for client in (client for clients, _ in hogs for client in clients):
            client.close()
        self.assertLess(max(took), 20, took)
        for _, busy in hogs:
            eventually(lambda: not busy(), "the runs have ended")

    def test_a_client_that_goes_ends_its_run(self):
        clients, busy = self.endless("endless", "wasm")
        for client in clients:
            client.close()
        begun = time.monotonic()
        eventually(lambda: not busy(), "the runs have ended")
        # Engines that compute for nobody would not answer.
        self.assertEqual(self.post("echo-wasm", b"x")[1], b"x")
        self.assertLess(time.monotonic() - begun, 20)

    def instances(self, name):
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.node.endpoint).netloc, timeout=60)
        connection.request("GET", "/v1/instances")
        shown = json.loads(connection.getresponse().read())
        connection.close()
        return [one["instances"] for one in shown if one["function"] == name]

    def test_an_engine_that_is_killed_is_replaced(self):
        self.post("echo-wasm", b"x")
        for _ in range(3):
            engines = self.engines()
            self.assertTrue(engines)
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                runs = [pool.submit(self.post, "echo-wasm", b"x") for _ in range(200)]
                os.kill(engines[0], signal.SIGKILL)
                answers = [run.result() for run in runs]
            bad = [body for status, body, _ in answers if status != 200]
            for body in bad:
                self.assertTrue(b"Pure.Engine" in body or b"engine" in body, body)
            eventually(lambda: self.post("echo-wasm", b"x")[0] == 200, "an engine is there again")

    def test_idle_engines_do_nothing(self):
        for kind in self.kinds:
            self.assertEqual(self.post(f"echo-{kind}", b"x")[0], 200)

        def switches():
            """How often each thread of the engines, and of what they have made, has gone to sleep or was made to."""
            found = {}
            for engine in self.engines():
                for pid in descendants(engine):
                    for thread in Path(f"/proc/{pid}/task").iterdir():
                        lines = (thread / "status").read_text().splitlines()
                        found[thread.name] = [line for line in lines if "ctxt_switches" in line]
            return found

        def are_idle():
            before = switches()
            # tidy: allow test-sleep: nothing is waited for; this is how long they are watched
            time.sleep(0.5)
            return before and before == switches()

        eventually(are_idle, "the engines do nothing where there is nothing to do")

    def test_a_thousand_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            for kind in self.kinds:
                answers = list(pool.map(lambda at: self.post(f"echo-{kind}", b"%d" % at), range(1000)))
                wrong = [answer for at, answer in enumerate(answers) if answer[:2] != (200, b"%d" % at)]
                self.assertEqual(wrong, [])


class Machines(unittest.TestCase):
    """Native functions in virtual machines, where this machine has some."""

    ENOUGH = 10_000_000

    def node(self, limit_us):
        if not (GUESTS / "echo.elf").exists():
            raise unittest.SkipTest("there are no guests: `make guest` builds them")
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise unittest.SkipTest("this machine has no /dev/kvm, or not for this user")
        folder = tempfile.TemporaryDirectory(prefix="lichen-e2e-")
        self.addCleanup(folder.cleanup)
        config = Path(folder.name) / "lichen.toml"
        config.write_text(f"[engines]\nkvm_limit_us = {limit_us}\n")
        return Node("--config", config)

    def create(self, node, guest, engine="kvm"):
        code = base64.b64encode(zip_of({"f": (GUESTS / f"{guest}.elf").read_bytes()})).decode()
        wishes = {
            "FunctionName": guest,
            "Runtime": "native",
            "Handler": "f",
            "Role": ROLE,
            "Code": {"ZipFile": code},
            "Timeout": 2,
            "Lichen": {"Engine": engine},
        }
        return call(node, "POST", "/2015-03-31/functions", wishes)

    def test_functions_run(self):
        with self.node(self.ENOUGH) as node:
            for guest in ("echo", "hostile"):
                status, answer = self.create(node, guest)
                if status == 400 and b"no engine of kind kvm" in answer:
                    raise unittest.SkipTest(answer.decode())
                self.assertEqual(status, 201, answer)
            for body in (b"hello", os.urandom(1 << 20)):
                self.assertEqual(call(node, "POST", "/v1/functions/echo/invoke", body), (200, body))
            for mode, expected in HOSTILE.items():
                with self.subTest(mode):
                    _, answer = call(node, "POST", "/v1/functions/hostile/invoke", mode.encode())
                    self.assertIn(json.loads(answer)["errorType"], expected, answer)
                    self.assertEqual(call(node, "POST", "/v1/functions/echo/invoke", b"x"), (200, b"x"))

    def test_slow_machines_are_refused(self):
        for limit_us, reason in ((1, b""), (0, b"kvm_limit_us of [engines] is 0")):
            with self.subTest(limit_us), self.node(limit_us) as node:
                status, answer = self.create(node, "echo")
                self.assertEqual(status, 400, answer)
                self.assertIn(b"no engine of kind kvm runs here", answer)
                self.assertIn(reason, answer)
                status, answer = self.create(node, "echo", "process")
                self.assertEqual(status, 201, answer)
                self.assertEqual(call(node, "POST", "/v1/functions/echo/invoke", b"x"), (200, b"x"))


class Computing(unittest.TestCase):
    """How many processors compute at once."""

    REQUESTS, CLIENTS = 200, 4

    def test_one_computes_and_the_others_rest(self):
        if not (GUESTS / "echo.wasm").exists():
            raise unittest.SkipTest("there are no guests: `make guest` builds them")
        if len(os.sched_getaffinity(0)) < 2:
            raise unittest.SkipTest("there is one processor, which always computes")
        folder = tempfile.TemporaryDirectory(prefix="lichen-e2e-")
        self.addCleanup(folder.cleanup)
        config = Path(folder.name) / "lichen.toml"
        config.write_text("[dispatch]\ncomputing = 1\n")
        with Node("--config", config) as node:
            code = {"ZipFile": zip_of({"f": (GUESTS / "echo.wasm").read_bytes()})}
            node.client().create_function(FunctionName="f", Runtime="wasm", Handler="f", Role=ROLE, Code=code)

            def ask(_):
                connection = http.client.HTTPConnection(urllib.parse.urlsplit(node.endpoint).netloc, timeout=60)
                for _ in range(self.REQUESTS):
                    connection.request("POST", "/v1/functions/f/invoke", b"x")
                    self.assertEqual(connection.getresponse().read(), b"x")
                connection.close()

            with concurrent.futures.ThreadPoolExecutor(self.CLIENTS) as clients:
                list(clients.map(ask, range(self.CLIENTS)))
            status, answer = call(node, "GET", "/v1/pus", None)
            self.assertEqual(status, 200, answer)
            engines = [engine for pu in json.loads(answer) for engine in pu["engines"]]
            working = {engine["processor"] for engine in engines if not engine["rests"]}
            self.assertEqual(working, {max(engine["processor"] for engine in engines)}, engines)
            runs = sum(engine["runs"] for engine in engines if not engine["rests"])
            # The others have run what came first: an instance is made on whichever has the fewest.
            self.assertGreater(runs, self.REQUESTS * self.CLIENTS * 3 // 4, engines)


class Left(unittest.TestCase):
    def test_nothing_is_left_behind(self):
        if not (GUESTS / "echo.wasm").exists():
            raise unittest.SkipTest("there are no guests: `make guest` builds them")
        for end in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(end), Node() as node:
                api = node.client()
                code = {"ZipFile": zip_of({"f": (GUESTS / "echo.wasm").read_bytes()})}
                api.create_function(FunctionName="f", Runtime="wasm", Handler="f", Role=ROLE, Code=code)
                invoke(api, "f", {})
                processes = descendants(node.process.pid)
                self.assertTrue(set(named(ENGINE)) & processes)
                node.stop(end)
                gone = lambda: not [pid for pid in processes if pid in named(ENGINE) + named("lichen-nursery")]
                eventually(gone, "its engines have ended")


if __name__ == "__main__":
    unittest.main()
