"""containerd, driven as a kubelet drives it: by its Container Runtime Interface. That is gRPC: curl carries it, and of its
messages there is here what a test of networks needs."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import uuid
from pathlib import Path

from harness import PATIENCE, command_line, eventually

NEEDED = ["containerd", "ctr", "runc", "busybox", "curl", "nsenter"]
IMAGE = "lichen.test/busybox:1"
SPACE = "k8s.io"


def missing():
    """Of the programs that it takes."""
    lacking = [program for program in NEEDED if not shutil.which(program)]
    return lacking or ([] if is_whole("busybox") else ["a busybox that needs no library"])


def is_whole(program):
    """Whether a program runs where nothing else is."""
    said = subprocess.run(["ldd", shutil.which(program)], capture_output=True, text=True)
    return said.returncode != 0 or "statically linked" in said.stdout


def message(fields):
    """Of protobuf: numbers, texts, other messages, each perhaps several times, by their places."""
    out = b""
    for place, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                out += number(place << 3) + number(value)
            else:
                piece = message(value) if isinstance(value, dict) else value.encode()
                out += number(place << 3 | 2) + number(len(piece)) + piece
    return out


def number(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def fields(message):
    """The same backwards: what each place has, numbers and bytes."""
    left, found = memoryview(message), {}

    def next_number():
        nonlocal left
        value = shift = 0
        while True:
            byte, left = left[0], left[1:]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while left:
        key = next_number()
        value = next_number()
        if key & 7 == 2:
            value, left = bytes(left[:value]), left[value:]
        found.setdefault(key >> 3, []).append(value)
    return found


class Refused(Exception):
    pass


class Containerd:
    """One with a folder of its own, that stands in a network namespace and looks for plugins in `plugins`."""

    def __init__(self, test, folder, namespace, plugins, chain):
        self.folder, self.namespace = folder / "containerd", namespace
        self.socket, self.process = self.folder / "socket", None
        self.group = f"/lichen-{uuid.uuid4().hex}"
        for name in ("etc", "bin"):
            (self.folder / name).mkdir(parents=True)
        for plugin in plugins:
            (self.folder / "bin" / plugin.name).symlink_to(plugin)
        (self.folder / "etc/10-test.conflist").write_text(json.dumps(chain))
        (self.folder / "config.toml").write_text(self.configuration())
        test.addCleanup(self.end)
        self.start()
        self.bring_image()

    def configuration(self):
        cri, folder = 'plugins."io.containerd.grpc.v1.cri"', self.folder
        return f"""version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[{cri}]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  netns_mounts_under_state_dir = true
[{cri}.cni]
  bin_dir = "{folder}/bin"
  conf_dir = "{folder}/etc"
[{cri}.containerd]
  snapshotter = "native"
"""

    def start(self):
        line = ["nsenter", f"--net={self.namespace}", "containerd", "--config", self.folder / "config.toml"]
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(list(map(str, line)), stdout=log, stderr=log)
        eventually(self.is_ready, "containerd answers")

    def is_ready(self):
        try:
            conditions = fields(self.call("Status")[1][0])[1]
        except (Refused, KeyError):
            return False
        return len(conditions) == 2 and all(fields(condition).get(2) == [1] for condition in conditions)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(PATIENCE)

    def call(self, method, request=None):
        """One call: the answer's fields."""
        body, headers = message(request or {}), self.folder / "headers"
        done = subprocess.run(
            ["curl", "-sS", "--http2-prior-knowledge", "--unix-socket", self.socket, "-D", headers, "--data-binary", "@-",
             "-H", "content-type: application/grpc", "-H", "te: trailers", "-m", str(PATIENCE),
             f"http://localhost/runtime.v1.RuntimeService/{method}"],
            input=b"\0" + len(body).to_bytes(4, "big") + body, capture_output=True,
        )
        told = headers.read_text() if headers.exists() else ""
        if done.returncode != 0 or "grpc-status: 0" not in told:
            raise Refused(f"{method}: {done.stderr.decode()}{told}")
        return fields(done.stdout[5:])

    def bring_image(self):
        """An image of one program, made here."""
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
                folder = tarfile.TarInfo(name)
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(folder)
            tar.add(shutil.which("busybox"), "bin/busybox")
        digest = hashlib.sha256(layer.getvalue()).hexdigest()
        machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        config = {"architecture": machine, "os": "linux", "config": {"Cmd": ["/bin/busybox", "sleep", "10000"]},
                  "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}
        manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
        with tarfile.open(self.folder / "image.tar", "w") as tar:
            pieces = [("config.json", json.dumps(config).encode()), ("manifest.json", json.dumps(manifest).encode()),
                      ("layer.tar", layer.getvalue())]
            for name, piece in pieces:
                file = tarfile.TarInfo(name)
                file.size = len(piece)
                tar.addfile(file, io.BytesIO(piece))
        self.ctr("image", "import", "--snapshotter", "native", self.folder / "image.tar")

    def ctr(self, *words):
        line = ["ctr", "--address", self.socket, "--namespace", SPACE, *words]
        return subprocess.run(list(map(str, line)), check=True, capture_output=True, text=True, timeout=PATIENCE).stdout

    def shims(self):
        """Who keeps its containers: they outlive it."""
        lines = ((int(path.name), command_line(int(path.name))) for path in Path("/proc").glob("[0-9]*"))
        return [pid for pid, line in lines if str(self.socket) in line and "shim" in line[0]]

    def end(self):
        if self.process.poll() is None:
            for pod in self.call("ListPodSandbox").get(1, []):
                Pod(self, {}, fields(pod)[1][0].decode()).end()
            self.stop()
        for pid in self.shims():
            os.kill(pid, signal.SIGKILL)
        groups = [group for top in Path("/sys/fs/cgroup").glob(f"**{self.group}") for group in [*top.glob("*/"), top]]
        for group in groups:
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for group in groups:
            eventually(lambda: not (group / "cgroup.procs").read_text(), "its processes have ended")
            group.rmdir()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{self.folder}/")]):
            subprocess.run(["umount", "-l", mount], capture_output=True)


class Pod:
    """Of one containerd; `config` is as a kubelet writes it."""

    def __init__(self, containerd, config, sandbox):
        self.containerd, self.config, self.sandbox = containerd, config, sandbox

    @classmethod
    def run(cls, containerd, name, annotations):
        config = {1: {1: name, 2: f"uid-{name}", 3: "default"}, 2: name, 3: str(containerd.folder / "logs"),
                  7: [{1: key, 2: value} for key, value in annotations.items()], 8: {1: containerd.group, 2: {}}}
        return cls(containerd, config, containerd.call("RunPodSandbox", {1: config})[1][0].decode())

    def address(self):
        status = fields(self.containerd.call("PodSandboxStatus", {1: self.sandbox})[1][0])
        return fields(status[5][0])[1][0].decode()

    def start(self, name, *command):
        """A container in it."""
        config = {1: {1: name}, 2: {1: IMAGE}, 3: list(command), 15: {}}
        request = {1: self.sandbox, 2: config, 3: self.config}
        container = self.containerd.call("CreateContainer", request)[1][0].decode()
        self.containerd.call("StartContainer", {1: container})
        return container

    def say(self, container, *command):
        """What a program says in a container."""
        done = self.containerd.call("ExecSync", {1: container, 2: list(command), 3: PATIENCE})
        return done.get(1, [b""])[0].decode()

    def end(self):
        self.containerd.call("StopPodSandbox", {1: self.sandbox})
        self.containerd.call("RemovePodSandbox", {1: self.sandbox})
