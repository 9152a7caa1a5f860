"""How starts are ordered: through FIFOs of the shims, over sockets while there are none, and never lost between the two."""

import os
import re
import signal
import threading
import unittest
import urllib.request

import harness
from harness import Node, eventually, invoke, lichen

TWO = """
[[pu]]
name = "near"
kind = "dpu"
"""


def ways(node, pu):
    """How many starts this PU's worker was ordered, by the way."""
    with urllib.request.urlopen(node.endpoint + "/metrics") as page:
        text = page.read().decode()
    found = re.findall(rf'lichen_pu_starts_ordered_total{{pu="{pu}",way="(\w+)"}} (\d+)', text)
    return {way: int(count) for way, count in found}


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Caller(threading.Thread):
    """Starts one instance after the other, until it is stopped."""

    def __init__(self, node, function):
        super().__init__()
        self.api, self.function = node.client(), function
        self.over, self.answers, self.failures = threading.Event(), 0, []
        self.start()

    def run(self):
        while not self.over.is_set():
            try:
                answer = invoke(self.api, self.function)
                assert not answer.failed, answer.value
                self.answers += 1
            except Exception as failure:
                self.failures.append(str(failure))

    def stop(self):
        self.over.set()
        self.join()


@unittest.skipUnless(os.geteuid() == 0, "units take root")
class Orders(unittest.TestCase):
    def setUp(self):
        path = os.path.join(harness.tempfile.mkdtemp(), "lichen.toml")
        with open(path, "w") as file:
            file.write(TWO)
        self.node = self.enterContext(Node("--config", path))
        self.api = self.node.client()
        for name, kind in [("host", "cpu"), ("near", "dpu")]:
            words = ["--name", name, "--isolation", "request", "--memory", 128, "--pu", kind]
            done = lichen("deploy", harness.FIXTURES / "counter", *words, endpoint=self.node.endpoint)
            self.assertEqual(done.returncode, 0, done.stderr)

    def await_fifo(self, pu):
        """Until a start has been ordered through a FIFO."""
        before = ways(self.node, pu).get("fifo", 0)

        def ordered():
            self.assertFalse(invoke(self.api, pu).failed)
            return ways(self.node, pu)["fifo"] > before

        eventually(ordered, f"starts on {pu} are ordered through a FIFO")

    def test_starts_on_every_pu_are_ordered_through_its_fifo(self):
        for pu in ["host", "near"]:
            eventually(lambda: self.invoked(pu), f"{pu} runs functions")
            self.await_fifo(pu)
            before = ways(self.node, pu)
            for _ in range(30):
                self.assertFalse(invoke(self.api, pu).failed)
            after = ways(self.node, pu)
            self.assertGreaterEqual(after["fifo"] - before["fifo"], 25)
            self.assertEqual(after["socket"], before["socket"])

    def invoked(self, pu):
        try:
            return not invoke(self.api, pu).failed
        except Exception:
            return False

    def test_starts_go_on_when_shims_are_killed(self):
        for pu in ["host", "near"]:
            eventually(lambda: self.invoked(pu), f"{pu} runs functions")
            self.await_fifo(pu)
        gateway, worker = (self.node.roles()[role] for role in ["gateway", "worker"])
        open_before = [descriptors(gateway), descriptors(worker)]
        callers = [Caller(self.node, pu) for pu in ["host", "near"]]
        try:
            for _ in range(3):
                shim = self.node.roles()["shim"]
                served = callers[0].answers
                os.kill(shim, signal.SIGKILL)
                eventually(lambda: self.node.roles().get("shim", shim) != shim, "there is a shim again")
                eventually(lambda: callers[0].answers > served, "starts go on")
                self.await_fifo("host")
        finally:
            for caller in callers:
                caller.stop()
        # A start needs no shim; one on a neighbour neither.
        self.assertEqual([caller.failures for caller in callers], [[], []])
        self.assertEqual([gateway, worker], [self.node.roles()[role] for role in ["gateway", "worker"]])
        starts = sum(caller.answers for caller in callers)
        self.assertGreater(starts, 20)
        # Of each start four descriptors would stay.
        eventually(
            lambda: descriptors(gateway) < open_before[0] + 60 and descriptors(worker) < open_before[1] + 60,
            f"no kit is left of {starts} starts: {open_before}",
        )

    def test_workers_and_gateways_that_are_killed_are_ordered_through_fifos_again(self):
        eventually(lambda: self.invoked("host"), "the host runs functions")
        self.await_fifo("host")
        for role in ["worker", "gateway", "worker"]:
            pid = self.node.roles()[role]
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: self.node.roles().get(role, pid) != pid, f"there is a {role} again")
            eventually(lambda: self.invoked("host"), "the host runs functions again")
            self.await_fifo("host")
        eventually(lambda: self.invoked("near"), "the neighbour runs functions again")
        self.await_fifo("near")
