"""What the end-to-end tests share: nodes, clients, and looks at what a node leaves on the machine.

Nothing here sleeps for a fixed time: a test waits for an event, or for a condition with a time limit.
"""

import base64
import io
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import threading
import time
import uuid
import zipfile
from pathlib import Path

import boto3
from botocore.config import Config

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
BINARY = Path(os.environ.get("LICHEN_BINARY", REPOSITORY / "target/debug/lichen"))
FIXTURES = HERE / "fixtures"
PATIENCE = 30


def eventually(condition, what, limit=PATIENCE):
    """Waits until `condition()` is true."""
    deadline = time.monotonic() + limit
    never = threading.Event()
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {limit} s")
        never.wait(0.02)
    return answer


def lichen(*arguments, data=None, endpoint=None, timeout=120, **options):
    """Runs a verb to its end."""
    environment = {**os.environ, "LICHEN_ENDPOINT": endpoint or os.environ.get("LICHEN_ENDPOINT", "")}
    if not environment["LICHEN_ENDPOINT"]:
        del environment["LICHEN_ENDPOINT"]
    environment.update(options.pop("env", {}))
    return subprocess.run(
        [BINARY, *map(str, arguments)], input=data, capture_output=True, text=True, timeout=timeout, env=environment, **options
    )


class Node:
    """A `lichen serve` of the test's own."""

    def __init__(self, *arguments, folder=None, command=None, **options):
        self.temporary = None if folder else tempfile.TemporaryDirectory(prefix="lichen-e2e-")
        self.folder = Path(folder or self.temporary.name)
        line = [command or BINARY, "serve", "--listen", "127.0.0.1:0", "--data-dir", self.folder, *arguments]
        self.log_file = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(
            [str(word) for word in line], stdout=subprocess.PIPE, stderr=self.log_file, text=True, **options
        )
        self.endpoint = self._wait_until_ready()

    def _wait_until_ready(self):
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if readable else ""
        found = re.search(r"ready at (http://\S+?),", line)
        if not found:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the node is not ready; it said {line!r} and\n{self.log()}")
        return found.group(1)

    def log(self):
        self.log_file.seek(0)
        return self.log_file.read()

    def client(self, **options):
        return client(self.endpoint, **options)

    def roles(self):
        """The process ids of the daemons, by role."""
        roles = {}
        for pid in children(self.process.pid):
            words = command_line(pid)
            if len(words) > 1 and words[1] in ("gateway", "worker", "shim", "broker"):
                roles[words[1]] = pid
        return roles

    def stop(self, number=signal.SIGTERM, limit=PATIENCE):
        """Ends it; answers its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            self.process.stdout.close()
            self.log_file.close()
            if self.temporary:
                self.temporary.cleanup()


def client(endpoint, **options):
    """A boto3 client with made-up credentials that tries everything once."""
    settings = {"retries": {"max_attempts": 0}, "read_timeout": 120, "connect_timeout": 5, **options}
    return boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(**settings),
    )


def package(folder):
    """A folder as a zip."""
    bytes_ = io.BytesIO()
    with zipfile.ZipFile(bytes_, "w") as archive:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(folder))
    return bytes_.getvalue()


def deploy(api, folder, name=None, **settings):
    """Makes a function of a folder below fixtures/; answers its name."""
    name = name or f"{folder}-{uuid.uuid4().hex[:8]}"
    is_node = (FIXTURES / folder / "index.js").exists()
    defaults = {
        "Runtime": "nodejs20.x" if is_node else "python3.11",
        "Handler": "index.handler" if is_node else "app.handler",
        "Role": "arn:aws:iam::000000000000:role/test",
        "Timeout": 30,
        "MemorySize": 256,
    }
    api.create_function(FunctionName=name, Code={"ZipFile": package(FIXTURES / folder)}, **{**defaults, **settings})
    api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    return name


def zip_of(files):
    """Files by name, as a zip."""
    bytes_ = io.BytesIO()
    with zipfile.ZipFile(bytes_, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return bytes_.getvalue()


class Answer:
    """What an invocation came to."""

    def __init__(self, reply):
        self.status = reply["StatusCode"]
        self.failed = "FunctionError" in reply
        self.value = json.loads(reply["Payload"].read() or b"null")
        self.log = base64.b64decode(reply.get("LogResult", "")).decode(errors="replace")


def invoke(api, name, event=None, log=False):
    """Invokes a function and waits for the answer."""
    return Answer(
        api.invoke(FunctionName=name, Payload=json.dumps(event or {}), LogType="Tail" if log else "None")
    )


# What a node leaves on the machine.


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def stat(pid):
    """The fields of /proc/PID/stat behind the name; nothing for a process that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(parent):
    return [pid for pid in pids() if (fields := stat(pid)) and int(fields[1]) == parent]


def descendants(root):
    """The process and all below it, with their start times: so that a reused number is no survivor."""
    there = {pid: fields for pid in pids() if (fields := stat(pid))}
    below = {}
    for pid, fields in there.items():
        below.setdefault(int(fields[1]), []).append(pid)
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        if pid in there:
            found[pid] = there[pid][19]
            waiting.extend(below.get(pid, []))
    return found


def alive(processes):
    """Which of these processes are still there."""
    return [pid for pid, started in processes.items() if (fields := stat(pid)) and fields[19] == started]


def groups(owner):
    """Control groups whose names say that this process made them."""
    folders = (Path(folder) / name for root in cgroup_roots() for folder, names, _ in os.walk(root) for name in names)
    return [path for path in folders if path.name.startswith(f"lichen-{owner}-")]


def cgroup_roots():
    top = Path("/sys/fs/cgroup")
    return [top] if (top / "cgroup.controllers").exists() else [top / name for name in ("memory", "cpu", "pids")]


def mounts():
    return Path("/proc/self/mountinfo").read_text().splitlines()


def network_interfaces():
    return set(os.listdir("/sys/class/net"))
