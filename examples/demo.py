#!/usr/bin/env python3
"""Starts a node, deploys the two examples, calls them cold and warm through the Lambda API, and prints what it took.

    examples/demo.py [LICHEN]        LICHEN: the binary, target/release/lichen if not given

Times are those of this client, over one kept-open HTTP connection: from sending the request to having read the answer.
Cold means that the request got an instance of its own, forked for it; warm, that one instance served all of them. The
node, its data and all it installs live in a temporary folder and end with the demo; the thumbnail stays.
"""

import base64
import http.client
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
THUMBNAIL = ROOT / ".build" / "thumbnail.jpg"

COLD, WARM, CROWD = 50, 1000, 16


def main():
    lichen = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target" / "release" / "lichen").absolute()
    photo = (HERE / "thumbnail" / "photo.jpg").read_bytes()
    events = {
        "thumbnail": {"image": base64.b64encode(photo).decode(), "width": 200, "height": 200},
        "greet": json.loads((HERE / "greet" / "event.json").read_text()),
    }
    with tempfile.TemporaryDirectory(prefix="lichen-demo-") as folder, node(lichen, Path(folder)) as place:
        rows = [row(place, name, event) for name, event in events.items()]
        keep(place.client().invoke("thumbnail", events["thumbnail"]), photo)
        print(json.dumps(place.client().invoke("greet", events["greet"]), ensure_ascii=False))
    print_table(rows)


def row(place, name, event):
    """Everything the table says of one example."""
    say(f"deploying {name}")
    place.deploy(name, "--isolation", "request")
    client = place.client()
    client.invoke(name, event)
    say(f"{name}: {COLD} requests, each in a new instance")
    before = place.counters(name)
    cold = timed(client, name, event, COLD)
    stems = place.counters(name)["stem_starts"] - before["stem_starts"]

    place.deploy(name, "--isolation", "instance")
    client.invoke(name, event)
    say(f"{name}: {WARM} requests to an instance that is there")
    warm = timed(client, name, event, WARM)
    return name, cold, stems, warm, memory_per_instance(place, name, event)


def timed(client, name, event, count):
    """The times of `count` requests in milliseconds, sorted."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        client.invoke(name, event)
        times.append((time.perf_counter() - start) * 1000)
    return sorted(times)


def memory_per_instance(place, name, event):
    """How much more memory the node has in use for each instance that a crowd of requests makes, in MB (PSS)."""
    instances, memory = place.instances(name), place.memory()
    with ThreadPoolExecutor(CROWD) as crowd:
        list(crowd.map(lambda _: place.client().invoke(name, event), range(CROWD)))
    more = place.instances(name) - instances
    return (place.memory() - memory) / more / 1e6 if memory and more > 0 else None


class Failed(Exception):
    """Something that the node did not do, and what it said instead."""


class Client:
    """One connection to a node, speaking AWS Lambda's API."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address, timeout=120)

    def call(self, method, path, body=None):
        self.connection.request(method, path, body)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200 or "X-Amz-Function-Error" in answer.headers:
            raise Failed(f"{method} {path}: {answer.status} {text[:2000].decode(errors='replace')}")
        return json.loads(text)

    def invoke(self, name, event):
        return self.call("POST", f"/2015-03-31/functions/{name}/invocations", json.dumps(event).encode())


class Place:
    """A node that runs: where it is reached, and which process it is."""

    def __init__(self, lichen, endpoint, process, environment):
        self.lichen, self.endpoint, self.process, self.environment = lichen, endpoint, process, environment

    def client(self):
        return Client(urlsplit(self.endpoint).netloc)

    def deploy(self, name, *options):
        command = [self.lichen, "deploy", HERE / name, "--name", name, "--endpoint", self.endpoint, *options]
        if subprocess.run(command, env=self.environment, stdout=subprocess.DEVNULL).returncode != 0:
            raise Failed(f"{name} could not be deployed")

    def function(self, name):
        return next(function for function in self.client().call("GET", "/v1/functions") if function["name"] == name)

    def counters(self, name):
        return self.function(name)["counters"]

    def instances(self, name):
        now = self.function(name)["instances"]
        return now["idle"] + now["busy"] + now["starting"] + now["stems"]

    def memory(self):
        """The proportional set size of all processes of the node, in bytes; 0 where the kernel does not tell."""
        parents = {int(path.name): parent_of(path) for path in Path("/proc").glob("[0-9]*")}
        ours = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= more
        try:
            return sum(pss_of(pid) for pid in ours)
        except PermissionError:
            return 0


def parent_of(process):
    try:
        # The name, in brackets, may contain anything.
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def pss_of(pid):
    try:
        lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


@contextmanager
def node(lichen, folder):
    """A node on a free port for as long as the block runs. What it logs is shown if it fails."""
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    command = [lichen, "serve", "--listen", "127.0.0.1:0", "--data-dir", folder / "data"]
    say("starting a node")
    with open(folder / "log", "w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            yield Place(lichen, endpoint_of(process), process, environment)
        except Failed as failed:
            log.seek(0)
            sys.exit(f"demo: {failed}\n{log.read()}")
        finally:
            say("ending the node")
            process.terminate()
            process.wait()


def endpoint_of(process):
    """Waits for the line in which the node says that it is ready, and where."""
    for line in process.stdout:
        if "ready at " in line:
            return line.split("ready at ")[1].split(",")[0].strip()
    raise Failed("the node did not start")


def keep(answer, photo):
    THUMBNAIL.parent.mkdir(exist_ok=True)
    THUMBNAIL.write_bytes(base64.b64decode(answer["image"]))
    before, after = answer["from"], answer["to"]
    print(
        f"\n{THUMBNAIL.relative_to(ROOT)}: {before['width']} x {before['height']}, {len(photo):,} bytes"
        f" -> {after['width']} x {after['height']}, {after['bytes']:,} bytes"
    )


def print_table(rows):
    print(f"\n{'':12}{f'cold, of {COLD}':^20}{f'warm, of {WARM:,}':^20}{'memory per':>12}")
    print(f"{'':12}" + f"{'p50':>10}{'p99':>10}" * 2 + f"{'instance':>12}")
    for name, cold, _, warm, memory in rows:
        times = "".join(f"{quantile(times, q):7.2f} ms" for times in (cold, warm) for q in (0.5, 0.99))
        print(f"{name:12}{times}" + (f"{memory:9.1f} MB" if memory else f"{'needs root':>12}"))
    for name, _, stems, _, _ in rows:
        if stems:
            print(f"{name}: {stems} of the {COLD} cold instances had been forked ahead of time")


def quantile(times, q):
    """The nearest rank: always a time that was measured."""
    return times[math.ceil(q * len(times)) - 1]


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
