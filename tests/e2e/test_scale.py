"""The bars for the control plane: many functions registered, and a large package created and called.

LICHEN_FUNCTIONS=10000 is the bar itself; without it, a number that takes some seconds. What is measured is printed.
"""

import base64
import http.client
import io
import json
import os
import queue
import random
import statistics
import tempfile
import threading
import time
import unittest
import urllib.parse
import uuid
import zipfile

from harness import Node, client

FUNCTIONS = int(os.environ.get("LICHEN_FUNCTIONS", "1000"))
# A debug build takes as long as it takes: the bars are for the program as people use it.
IS_BAR = "LICHEN_FUNCTIONS" in os.environ
ROLE = "arn:aws:iam::000000000000:role/test"
SOURCE = "def handler(event, context):\n    return event\n"
CREATORS = 8
PACKAGE = 10 << 20


def zipped(files):
    bytes_ = io.BytesIO()
    with zipfile.ZipFile(bytes_, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return bytes_.getvalue()


class Caller:
    """A connection that is kept."""

    def __init__(self, node):
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(node.endpoint).netloc, timeout=60)

    def __call__(self, method, path, body=None):
        self.connection.request(method, path, body)
        reply = self.connection.getresponse()
        return reply.status, reply.read()

    def create(self, number):
        code = {"ZipFile": base64.b64encode(zipped({"app.py": SOURCE})).decode()}
        settings = {"FunctionName": f"f{number:05}", "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler", "Code": code}
        status, answer = self("POST", "/2015-03-31/functions", json.dumps(settings))
        assert status == 201, answer


def better_ms(act, times):
    """What the better quarter takes: others use the processors, too."""
    took = []
    for number in range(times):
        began = time.perf_counter()
        act(number)
        took.append((time.perf_counter() - began) * 1000)
    return statistics.quantiles(took, n=4)[0]


class Scale(unittest.TestCase):
    def create(self, node, numbers):
        waiting = queue.Queue()
        for number in numbers:
            waiting.put(number)

        def work():
            caller = Caller(node)
            try:
                while True:
                    caller.create(waiting.get_nowait())
            except queue.Empty:
                caller.connection.close()

        creators = [threading.Thread(target=work) for _ in range(CREATORS)]
        for creator in creators:
            creator.start()
        for creator in creators:
            creator.join()

    def measure(self, node, functions):
        caller, lot = Caller(node), random.Random(1)
        path = "/2015-03-31/functions"

        def name():
            return f"{path}/f{lot.randrange(functions):05}"

        measured = {
            "list": better_ms(lambda _: self.assertEqual(caller("GET", f"{path}?MaxItems=10")[0], 200), 50),
            "get": better_ms(lambda _: self.assertEqual(caller("GET", name())[0], 200), 50),
            "invoke": better_ms(lambda _: self.assertEqual(caller("POST", f"{path}/f00003/invocations", "{}")[0], 200), 50),
        }
        caller.connection.close()
        print(f"{functions} functions: " + ", ".join(f"{what} {ms:.2f} ms" for what, ms in measured.items()))
        return measured

    def test_many_functions_slow_nothing_down(self):
        with tempfile.TemporaryDirectory() as folder:
            with Node(folder=folder) as node:
                self.create(node, range(10))
                few = self.measure(node, 10)
                self.create(node, range(10, FUNCTIONS))
            began = time.monotonic()
            with Node(folder=folder) as node:
                start = time.monotonic() - began
                print(f"{FUNCTIONS} functions: the node is ready after {start:.2f} s")
                many = self.measure(node, FUNCTIONS)
                listed = client(node.endpoint).get_paginator("list_functions").paginate()
                self.assertEqual(sum(len(page["Functions"]) for page in listed), FUNCTIONS)
        self.assertLess(start, 2)
        for what, ms in many.items():
            self.assertLess(ms, 1.5 * few[what] + 1, what)


class Package(unittest.TestCase):
    def test_a_large_package_is_created_and_called(self):
        took = []
        with Node() as node:
            api = client(node.endpoint)
            for attempt in range(11):
                # Bytes that nothing can make smaller, in files as packages have them.
                files = {f"lib/part{number}.bin": os.urandom(PACKAGE // 40) for number in range(40)}
                package = zipped({"app.py": SOURCE, **files})
                name = f"large-{uuid.uuid4().hex[:8]}"
                began = time.perf_counter()
                api.create_function(
                    FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": package}
                )
                reply = api.invoke(FunctionName=name, Payload=b"{}")
                took.append((time.perf_counter() - began) * 1000)
                self.assertEqual(reply["Payload"].read(), b"{}")
        print(f"{PACKAGE >> 20} MiB created and called: {statistics.median(took):.0f} ms")
        if IS_BAR:
            self.assertLess(statistics.median(took), 150)


if __name__ == "__main__":
    unittest.main()
