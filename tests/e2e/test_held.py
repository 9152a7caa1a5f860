"""Items of flows that stay with the engine that made them: where they are, that nothing is left of them, whatever ends;
kept results and refusals of flows.

The programs are those of guest/examples, as `make guest` builds them; without them the tests are skipped.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import select
import signal
import tempfile
import time
import unittest
import urllib.parse
import urllib.request
from pathlib import Path

from harness import REPOSITORY, Node, descendants, eventually, lichen, zip_of

GUESTS = REPOSITORY / ".build/guest"
ROLE = "arn:aws:iam::000000000000:role/test"
MIB = 1 << 20
LARGE = 24 * MIB
CONFIG = """
[dispatch]
response_max = 134217728
[flows]
runs = 24
"""
FLOWS = {
    "large": "flow large(In) => (Out) { bytes(make = all In) => (Big = out); bytes(measure = all Big) => (Out = out); }",
    "wide": "flow wide(In) => (Out) { bytes(make = each In) => (B = out); echo(in = each B) => (C = out);"
    " bytes(measure = each C) => (Out = out); }",
    "stuck": "set Mode = \"loop\"; flow stuck(In) => (Out) { bytes(make = all In) => (Big = out);"
    " hostile(in = all Mode, more = all Big) => (Out = out); }",
    "middle": "flow middle(In) => (Out) { bytes(make = each In) => (B = out); relay(in = each B) => (C = out);"
    " echo(in = each C) => (D = out); bytes(measure = each D) => (Out = out); }",
    "kept": "flow kept(In) => (Out) { remembers(in = each In) => (Out = out); }",
}


def sum_of(count):
    """What guest/examples/bytes.c adds up to for so many bytes of its own."""
    whole, rest = divmod(count, 251)
    return f"{count} {whole * 250 * 251 // 2 + rest * (rest - 1) // 2}"


class Held(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not (GUESTS / "bytes.wasm").exists():
            raise unittest.SkipTest("there are no guests: `make guest` builds them")
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (folder / "lichen.toml").write_text(CONFIG)
        cls.node = cls.enterClassContext(Node("--config", folder / "lichen.toml"))
        api = cls.node.client()
        for name in ("bytes", "echo", "hostile"):
            code = {"ZipFile": zip_of({"f": (GUESTS / f"{name}.wasm").read_bytes()})}
            api.create_function(
                FunctionName=name, Runtime="wasm", Handler="f", Role=ROLE, Code=code, MemorySize=512, Timeout=20
            )
        relay = "def handler(event, context): return {'sets': {'out': event['sets']['in']}}"
        api.create_function(
            FunctionName="relay",
            Runtime="python3.11",
            Handler="app.handler",
            Role=ROLE,
            Code={"ZipFile": zip_of({"app.py": relay.encode()})},
            MemorySize=128,
            Timeout=20,
        )
        keeping = ["--name", "remembers", "--runtime", "wasm", "--cache"]
        done = lichen("deploy", GUESTS / "echo.wasm", *keeping, endpoint=cls.node.endpoint)
        assert done.returncode == 0, done.stderr
        for name, text in FLOWS.items():
            status, answer = cls.ask("POST", "/v1/flows", json.dumps({"name": name, "text": text}))
            assert status == 200, answer
        cls.ask("POST", "/v1/flows/wide/invoke", cls.sets(["5000"] * 64))

    @classmethod
    def connection(cls):
        return http.client.HTTPConnection(urllib.parse.urlsplit(cls.node.endpoint).netloc, timeout=60)

    @classmethod
    def ask(cls, method, path, body=None):
        connection = cls.connection()
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    @staticmethod
    def sets(items):
        return json.dumps({"sets": {"In": items}})

    def engines(self):
        def name(pid):
            try:
                return Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                return ""

        return [pid for pid in descendants(self.node.process.pid) if name(pid) == "lichen-engine"]

    def shared(self):
        """Bytes of shared memory that the engines have resident."""
        total = 0
        for pid in self.engines():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            # One that has ended, and that nobody has waited for yet, has none.
            total += sum(int(kib) * 1024 for kib in re.findall(r"RssShmem:\s+(\d+)", status))
        return total

    def peak(self):
        status = Path(f"/proc/{self.node.roles()['gateway']}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) * 1024

    def settled(self):
        # Up to 6 MiB of each of four engines are what its channels are made of.
        eventually(lambda: self.shared() < 24 * MIB, "the engines have given their items up")

    def test_a_large_item_does_not_come_by_the_gateway(self):
        before = self.peak()
        for _ in range(3):
            answer = self.ask("POST", "/v1/flows/large/invoke", self.sets([str(LARGE)]))
            self.assertEqual(answer, (200, sum_of(LARGE)))
        self.assertLess(self.peak() - before, 12 * MIB)
        self.settled()

    def test_many_items_are_found_by_every_engine(self):
        sizes = [str(4000 + 1500 * at) for at in range(200)]
        status, answer = self.ask("POST", "/v1/flows/wide/invoke", self.sets(sizes))
        self.assertEqual(status, 200, answer)
        found = [item["text"] for item in json.loads(answer)["sets"]["Out"]]
        self.assertEqual(found, [sum_of(int(size)) for size in sizes])
        self.settled()

    def test_a_run_that_is_ended_leaves_nothing(self):
        connection = self.connection()
        connection.request("POST", "/v1/flows/stuck/invoke", self.sets([str(LARGE)]))
        eventually(lambda: self.shared() > 20 * MIB, "the item is there")
        connection.close()
        self.settled()

    @staticmethod
    def kill(pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def run_flow(self, flow, sizes):
        """Runs it, and says that all of its answer is there, and how long it took."""
        begun = time.monotonic()
        status, answer = self.ask("POST", f"/v1/flows/{flow}/invoke", self.sets([str(size) for size in sizes]))
        took = time.monotonic() - begun
        self.assertEqual(status, 200, answer)
        self.assertIn('"sets"', answer)
        found = [item["text"] for item in json.loads(answer)["sets"]["Out"]]
        self.assertEqual(found, [sum_of(size) for size in sizes])
        return took

    def test_what_a_killed_engine_had_is_made_again(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for at in range(12):
                runs = [pool.submit(self.run_flow, "wide", [30000] * 20) for _ in range(24)]
                eventually(lambda: any(run.done() for run in runs), "runs have begun")
                engines = eventually(self.engines, "engines are there")
                # One after the other, and at times all of them.
                self.kill(engines if at % 4 == 3 else engines[at % len(engines) :][:1])
                self.assertLess(max(run.result(timeout=60) for run in runs), 10)
        self.settled()

    def test_a_wide_flow_gets_over_many_ends(self):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            run = pool.submit(self.run_flow, "wide", [5000] * 1000)
            for _ in range(5):
                concurrent.futures.wait([run], timeout=0.2)
                self.kill(self.engines())
            run.result(timeout=60)
        self.settled()

    def test_a_run_whose_engines_end_is_an_error_at_last(self):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            run = pool.submit(self.ask, "POST", "/v1/flows/stuck/invoke", self.sets(["70000"]))
            while not run.done():
                self.kill(self.engines())
                concurrent.futures.wait([run], timeout=0.5)
            self.assertRegex(run.result()[1], "Pure.Engine.*begun 3 times")
        self.settled()

    def test_handlers_are_not_run_again(self):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            runs = [pool.submit(self.run_flow, "middle", range(30000, 30010)) for _ in range(8)]
            # Once more, and a shard could have ended three of them, by chance.
            for _ in range(2):
                concurrent.futures.wait(runs, timeout=0.2)
                self.kill(self.engines()[:1])
            for run in runs:
                run.result(timeout=60)
        for run in json.loads(self.ask("GET", "/v1/flows/middle/runs")[1]):
            done = {application["application"]: application["done"] for application in run["applications"]}
            self.assertEqual(done["relay"], 10)
            self.assertGreaterEqual(done["echo"], 10)
        self.settled()

    def test_a_gateway_that_is_killed_takes_the_items_with_it(self):
        connection = self.connection()
        connection.request("POST", "/v1/flows/stuck/invoke", self.sets([str(LARGE)]))
        eventually(lambda: self.shared() > 20 * MIB, "the item is there")
        os.kill(self.node.roles()["gateway"], signal.SIGKILL)
        self.settled()

        def again():
            try:
                return self.ask("POST", "/v1/flows/large/invoke", self.sets(["70000"])) == (200, sum_of(70000))
            except OSError:
                return False

        eventually(again, "flows run again")
        connection.close()

    def test_results_are_kept_within_flows(self):
        def hits():
            page = urllib.request.urlopen(f"{self.node.endpoint}/metrics", timeout=60).read().decode()
            found = re.findall(r'lichen_cache_requests_total{[^}]*result="hit"} (\d+)', page)
            return sum(int(count) for count in found)

        before = hits()
        status, answer = self.ask("POST", "/v1/flows/kept/invoke", self.sets([{"name": "x", "text": "same"}] * 50))
        self.assertEqual((status, len(json.loads(answer)["sets"]["Out"])), (200, 50))
        self.assertEqual(hits() - before, 49)

    def test_more_runs_than_may_be_are_refused(self):
        connections = [self.connection() for _ in range(30)]
        try:
            for connection in connections:
                connection.request("POST", "/v1/flows/stuck/invoke", self.sets(["5000"]))
            sockets = [connection.sock for connection in connections]
            heard = eventually(lambda: select.select(sockets, [], [], 0)[0], "some are answered at once")
            first = next(connection for connection in connections if connection.sock is heard[0])
            self.assertEqual(first.getresponse().status, 429)
        finally:
            for connection in connections:
                connection.close()
        again = lambda: self.ask("POST", "/v1/flows/large/invoke", self.sets(["70000"]))[0] == 200
        eventually(again, "there is room again")
        self.settled()


if __name__ == "__main__":
    unittest.main()
