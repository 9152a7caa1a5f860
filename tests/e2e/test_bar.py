"""The bar for asynchronous invocation: so many events accepted while every process is killed at random, none lost.

LICHEN_EVENTS=100000 is the bar itself; without it, a number that takes a minute.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import signal
import tempfile
import threading
import time
import unittest
import urllib.parse
import urllib.request
from pathlib import Path

import harness
from harness import Node, deploy, eventually
from test_async import get, is_idle, printed

EVENTS = int(os.environ.get("LICHEN_EVENTS", "2000"))
KILLS = max(8, EVENTS // 2500)
LOADERS = 4
# Every so many-th event fails whenever it runs.
FAILING = 50
CONFIG = "[queue]\nretry_s = [1, 2]\n[logs]\ngroup_max_mib = 4096\n"


class Load:
    """Sends events until there are enough, and remembers what was accepted."""

    def __init__(self, name):
        self.path = f"/2015-03-31/functions/{name}/invocations"
        self.endpoint = None
        self.accepted = {}
        self.lock = threading.Lock()

    def run(self, loader):
        connection, number = None, 0
        while len(self.accepted) < EVENTS:
            number += 1
            key = f"{loader}-{number}"
            event = {"key": key, "fail": "told to"} if number % FAILING == 0 else {"key": key}
            try:
                if connection is None:
                    address = urllib.parse.urlsplit(self.endpoint).netloc
                    connection = http.client.HTTPConnection(address, timeout=10)
                connection.request("POST", self.path, json.dumps(event), {"X-Amz-Invocation-Type": "Event"})
                reply = connection.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException):
                # Cut off: whether it was accepted is not known. The next one goes to whoever answers then.
                connection = None
                threading.Event().wait(0.05)
                continue
            if reply.status == 202:
                with self.lock:
                    self.accepted[key] = reply.headers["x-amzn-requestid"]
            else:
                threading.Event().wait(0.05)


class Bar(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix="lichen-e2e-"))
        self.config = Path(self.enterContext(tempfile.TemporaryDirectory())) / "lichen.toml"
        self.config.write_text(CONFIG)
        self.node = None
        self.addCleanup(lambda: self.node and self.node.__exit__())

    def start(self):
        self.node = Node("--config", self.config, folder=self.folder)
        return self.node

    def test_every_accepted_event_is_handled(self):
        api = self.start().client()
        name, hears = deploy(api, "teller"), deploy(api, "teller")
        # The witness is held: what it is told lies on disk until the end.
        api.put_function_concurrency(FunctionName=hears, ReservedConcurrentExecutions=0)
        arn = api.get_function_configuration(FunctionName=hears)["FunctionArn"]
        sides = {side: {"Destination": arn} for side in ("OnSuccess", "OnFailure")}
        api.put_function_event_invoke_config(FunctionName=name, DestinationConfig=sides)
        load = Load(name)
        load.endpoint = self.node.endpoint
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(LOADERS) as pool:
            loaders = [pool.submit(load.run, loader) for loader in range(LOADERS)]
            kills = self.kill(load)
            [loader.result() for loader in loaders]
        accepted_s = time.monotonic() - began
        self.node.client().delete_function_concurrency(FunctionName=hears)
        eventually(lambda: self.answers(is_idle), "the queue is empty", limit=120 + EVENTS / 100)
        self.check(load.accepted, self.told(hears, load.accepted.keys()))
        print(
            f"{len(load.accepted)} events accepted in {accepted_s:.0f} s, {kills}, "
            f"all handled after {time.monotonic() - began:.0f} s",
            flush=True,
        )

    def kill(self, load):
        """Kills at random moments: daemons, the supervisor, any process below it."""
        chance, kills = random.Random(11), {}
        kinds = [("gateway", "worker", "supervisor", "any")[at % 4] for at in range(KILLS)]
        chance.shuffle(kinds)
        for round_, kind in enumerate(kinds, 1):
            wanted = EVENTS * round_ // (KILLS + 1)
            eventually(lambda: len(load.accepted) >= wanted, f"{wanted} events", limit=60 + EVENTS / 100)
            kills[kind] = kills.get(kind, 0) + 1
            if kind == "supervisor":
                processes = harness.descendants(self.node.process.pid)
                self.node.stop(signal.SIGKILL)
                eventually(lambda: not harness.alive(processes), "all have ended")
                load.endpoint = self.start().endpoint
                continue
            below = sorted(set(harness.descendants(self.node.process.pid)) - {self.node.process.pid})
            victim = chance.choice(below) if kind == "any" else self.node.roles().get(kind)
            try:
                os.kill(victim or below[0], signal.SIGKILL)
            except ProcessLookupError:
                pass
        return kills

    def answers(self, question):
        try:
            return question(self.node)
        except OSError:
            return False

    def told(self, name, keys):
        """What the witness printed of each event; its lines come a moment after its events are done, and some twice."""
        told = {}

        def is_all():
            told.clear()
            for line in printed(self.node, name):
                told.setdefault(line["event"]["requestPayload"]["key"], []).append(line["event"])
            return keys <= told.keys()

        with contextlib.suppress(AssertionError):
            eventually(is_all, "the witness's lines")
        return told

    def check(self, accepted, told):
        self.assertEqual(sorted(accepted.keys() - told.keys()), [], "lost")
        for key, request in accepted.items():
            contexts = [record["requestContext"] for record in told[key]]
            # One end each, under the id that the caller was told. What follows from an end may be told twice by a kill.
            self.assertEqual({context["requestId"] for context in contexts}, {request})
            fails = int(key.split("-")[1]) % FAILING == 0
            self.assertEqual({context["condition"] for context in contexts}, {"RetriesExhausted" if fails else "Success"})
            if fails:
                self.assertGreaterEqual(contexts[0]["approximateInvokeCount"], 3)
        self.assertEqual(get(self.node, "/v1/dlq"), [])

    def test_retries_come_in_their_time(self):
        api = self.start().client()
        name = deploy(api, "teller")
        reply = api.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"fail": "no"}')
        request = reply["ResponseMetadata"]["RequestId"]
        eventually(lambda: get(self.node, "/v1/dlq"), "the event is dead")
        with urllib.request.urlopen(f"{self.node.endpoint}/v1/functions/{name}/logs?request={request}") as lines:
            records = [json.loads(line) for line in lines]
        times = [record["time"] for record in records if record["message"].startswith('{"told"')]
        self.assertEqual(len(times), 3)
        first, second = (later - earlier for earlier, later in zip(times, times[1:]))
        self.assertTrue(1000 <= first < 1900 and 2000 <= second < 3500, (first, second))


if __name__ == "__main__":
    unittest.main()
