"""lichen-cni in containerd's chain: Pods are begun and ended as a kubelet does it, and their containers talk."""

import json
import signal
import socket
import unittest
import uuid

from cri import IMAGE, Containerd, Pod, Refused, missing
from harness import eventually
from test_cni import PLUGIN, REFERENCE, Cluster, answers, can_make_namespaces, inside, run, serve

CHAIN = ["bridge", "host-local", "loopback"]
BUSYBOX = "/bin/busybox"
SPLIT = {"lichen.dev/split": "dpu"}


@unittest.skipUnless(can_make_namespaces(), "network namespaces take root and the program ip")
@unittest.skipIf(missing(), f"not installed: {', '.join(missing())}")
@unittest.skipUnless((REFERENCE / "bridge").exists(), f"no CNI plugins in {REFERENCE}")
class UnderContainerd(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(self)
        folder = self.cluster.folder
        ipam = {"type": "host-local", "ranges": [[{"subnet": "10.79.0.0/24"}]], "dataDir": str(folder / "ipam"),
                "routes": [{"dst": "0.0.0.0/0"}]}
        lichen = {"pods": "annotated", "daemon": str(folder / "net"), "state": str(folder / "state")}
        chain = {"cniVersion": "1.0.0", "name": "pods", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam},
            {"type": "lichen-cni", "capabilities": {"io.kubernetes.cri.pod-annotations": True}, "lichen": lichen},
        ]}
        plugins = [REFERENCE / name for name in CHAIN] + [PLUGIN]
        self.containerd = Containerd(self, folder, self.cluster.host, plugins, chain)

    def given(self):
        """The addresses that Pods have."""
        return [path.name for path in (self.cluster.folder / "ipam/pods").glob("10.*")]

    def peer(self):
        (record,) = (self.cluster.folder / "state").glob("*.json")
        return json.loads(record.read_text())["peer_namespace"]

    def check_clean(self):
        self.assertEqual((self.cluster.leftovers(), self.given()), ([], []))

    def test_a_pod_with_two_halves(self):
        pod = Pod.run(self.containerd, "web", SPLIT)
        address, peer = pod.address(), self.peer()
        app = pod.start("app", BUSYBOX, "nc", "-ll", "-p", "8000", "-e", BUSYBOX, "echo", "app")
        eventually(lambda: answers(peer, ("127.0.0.1", 8000)) == b"app\n", "the other half calls the app's localhost")

        # The sidecar: a container that joins the other half.
        name = f"sidecar-{uuid.uuid4().hex}"
        self.containerd.ctr("run", "--detach", "--snapshotter", "native", "--with-ns", f"network:{peer}",
                            "--cgroup", f"{self.containerd.group}/sidecar", IMAGE, name, BUSYBOX, "nc", "-ll",
                            "-p", "8001", "-e", BUSYBOX, "echo", "sidecar")
        call = lambda port: pod.say(app, BUSYBOX, "nc", "127.0.0.1", str(port))
        eventually(lambda: call(8001) == "sidecar\n", "the app calls the sidecar's localhost")
        for port, said in ((8000, b"app\n"), (8001, b"sidecar\n")):
            host = self.cluster.host
            eventually(lambda: answers(host, (address, port)) == said, "the node reaches both by the Pod's address")
        with self.assertRaises(OSError):
            inside(peer, lambda: socket.create_server(("127.0.0.1", 8000)))

        # Neither is missed: what was made works without them, and the next ones know of it.
        self.containerd.stop(signal.SIGKILL)
        self.cluster.stop(signal.SIGKILL)
        self.assertEqual(answers(peer, ("127.0.0.1", 8000)), b"app\n")
        self.cluster.start()
        self.containerd.start()
        self.assertEqual(call(8001), "sidecar\n")
        self.containerd.ctr("task", "rm", "--force", name)
        self.containerd.ctr("container", "rm", name)
        pod.end()
        self.check_clean()

    def test_pods_that_ask_for_nothing_pass(self):
        pod = Pod.run(self.containerd, "plain", {})
        app = pod.start("app", BUSYBOX, "sleep", "1000")
        self.assertNotIn("link1", pod.say(app, BUSYBOX, "ip", "link"))
        self.assertEqual(self.cluster.leftovers(), [])
        pod.end()
        self.check_clean()

    def test_a_pod_that_cannot_begin_leaves_nothing(self):
        self.cluster.stop()
        with self.assertRaisesRegex(Refused, "lichen net serve"):
            Pod.run(self.containerd, "web", SPLIT)
        self.cluster.start()
        eventually(lambda: not self.given(), "its address is given back")
        self.check_clean()
        self.assertNotIn("link0", run("nsenter", f"--net={self.cluster.host}", "ip", "link"))


if __name__ == "__main__":
    unittest.main()
