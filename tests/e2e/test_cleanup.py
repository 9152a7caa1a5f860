"""Whatever is killed, nothing stays behind, and what is left goes on."""

import os
import signal
import tempfile
import unittest

import harness
from harness import Node, alive, deploy, descendants, eventually, groups, invoke


class Traces:
    """What a node has on the machine at a moment, to be looked for later."""

    def __init__(self, node):
        self.processes = descendants(node.process.pid)
        self.owners = [pid for pid in node.roles().values()]
        self.mounts = harness.mounts()
        self.folder = node.folder

    def check_gone(self, test):
        eventually(lambda: not alive(self.processes), "all processes have ended")
        for owner in self.owners:
            eventually(lambda owner=owner: not groups(owner), "all control groups are removed")
        test.assertEqual([line for line in harness.mounts() if str(self.folder) in line], [])


class Cleanup(unittest.TestCase):
    def setUp(self):
        self.mounts = harness.mounts()
        self.interfaces = harness.network_interfaces()
        self.temporary = set(os.listdir(tempfile.gettempdir()))
        self.node = self.enterContext(Node())
        self.api = self.node.client()
        self.function = deploy(self.api, "counter")
        self.answer = invoke(self.api, self.function).value

    def check_nothing_left(self, traces):
        traces.check_gone(self)
        self.assertEqual(harness.mounts(), self.mounts)
        self.assertEqual(harness.network_interfaces(), self.interfaces)
        new = set(os.listdir(tempfile.gettempdir())) - self.temporary - {self.node.folder.name}
        self.assertEqual([name for name in new if name.startswith("lichen")], [])

    def check_serves_again(self):
        def answers():
            try:
                return not invoke(self.api, self.function).failed
            except Exception:
                return False

        eventually(answers, "the node serves again")

    def test_sigterm_ends_everything(self):
        traces = Traces(self.node)
        self.assertEqual(self.node.stop(signal.SIGTERM), 0, self.node.log())
        self.check_nothing_left(traces)

    def test_sigint_ends_everything(self):
        traces = Traces(self.node)
        self.assertEqual(self.node.stop(signal.SIGINT), 0, self.node.log())
        self.check_nothing_left(traces)

    def test_killed_supervisor(self):
        traces = Traces(self.node)
        self.node.stop(signal.SIGKILL)
        self.check_nothing_left(traces)

    def test_killed_worker(self):
        traces = Traces(self.node)
        worker = self.node.roles()["worker"]
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: worker not in alive(traces.processes), "the worker has ended")
        self.check_serves_again()
        keep = [self.node.process.pid, *(self.node.roles()[role] for role in ("gateway", "shim", "broker"))]
        old = {pid: at for pid, at in traces.processes.items() if pid not in keep}
        eventually(lambda: not alive(old), "the old worker's processes have ended")
        eventually(lambda: not groups(worker), "the old worker's control groups are removed")
        after = Traces(self.node)
        self.assertEqual(self.node.stop(), 0, self.node.log())
        self.check_nothing_left(after)

    def test_killed_shim(self):
        before, traces = self.node.roles(), Traces(self.node)
        os.kill(before["shim"], signal.SIGKILL)
        self.assertFalse(invoke(self.api, self.function).failed)
        eventually(lambda: self.node.roles().get("shim") not in (None, *traces.processes), "another shim")
        self.assertEqual(self.node.roles() | {"shim": before["shim"]}, before, "no other daemon has ended")
        after = Traces(self.node)
        self.assertEqual(self.node.stop(), 0, self.node.log())
        self.check_nothing_left(after)

    def test_killed_gateway(self):
        traces = Traces(self.node)
        os.kill(self.node.roles()["gateway"], signal.SIGKILL)
        self.check_serves_again()
        keep = [self.node.process.pid, self.node.roles()["shim"], self.node.roles()["broker"]]
        old = {pid: at for pid, at in traces.processes.items() if pid not in keep}
        eventually(lambda: not alive(old), "the old daemons and their processes have ended")
        after = Traces(self.node)
        self.assertEqual(self.node.stop(), 0, self.node.log())
        self.check_nothing_left(after)

    def test_all_three_killed_and_started_again(self):
        traces = Traces(self.node)
        for pid in (*self.node.roles().values(), self.node.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.node.process.wait()
        eventually(lambda: not alive(traces.processes), "all processes have ended")
        with Node(folder=self.node.folder) as again:
            self.assertFalse(invoke(again.client(), self.function).failed)
            after = Traces(again)
            traces.check_gone(self)
            self.assertEqual(again.stop(), 0, again.log())
        self.check_nothing_left(after)

    def test_killed_nursery(self):
        worker = self.node.roles()["worker"]
        for pid in harness.children(worker):
            os.kill(pid, signal.SIGKILL)
        self.check_serves_again()
        after = Traces(self.node)
        self.assertEqual(self.node.stop(), 0, self.node.log())
        self.check_nothing_left(after)

    def test_running_invocations_finish(self):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor() as pool:
            running = pool.submit(invoke, self.api, self.function, {"wait": 1})
            eventually(lambda: self.busy() > 0, "the invocation has begun")
            traces = Traces(self.node)
            self.assertEqual(self.node.stop(), 0, self.node.log())
            self.assertFalse(running.result().failed)
        self.check_nothing_left(traces)

    def busy(self):
        import json
        from urllib.request import urlopen

        with urlopen(f"{self.node.endpoint}/v1/node") as reply:
            return json.load(reply)["concurrency"]["busy"]


if __name__ == "__main__":
    unittest.main()
