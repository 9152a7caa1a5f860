"""An ordinary user's node: less, said so, and as strict in the rest."""

import os
import shutil
import signal
import tempfile
import unittest
from pathlib import Path

import harness
from harness import BINARY, Node, alive, deploy, descendants, eventually, invoke

NOBODY = 65534
LIBRARIES = ("liblichen_python.so", "liblichen_node.so", "lichen_provided")


class Rootless(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            raise unittest.SkipTest("this user is an ordinary one: the other tests have shown it")
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="lichen-e2e-nobody-")))
        # The build may be where only its owner can go.
        for name in (BINARY.name, *LIBRARIES):
            shutil.copy(BINARY.parent / name, folder / name)
        data = folder / "data"
        data.mkdir()
        os.chown(data, NOBODY, NOBODY)
        folder.chmod(0o755)
        cls.node = cls.enterClassContext(
            Node(
                folder=data,
                command=folder / BINARY.name,
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                cwd="/",
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(data), "LANG": "C.UTF-8"},
            )
        )
        cls.api = cls.node.client()

    def test_functions_run(self):
        for folder in ("hostile", "hostile_node"):
            self.assertEqual(invoke(self.api, deploy(self.api, folder)).value, "well")

    def test_functions_with_their_own_runtime_run(self):
        name = deploy(self.api, "provided", Runtime="provided.al2023", Handler="none")
        self.assertEqual(invoke(self.api, name, {"value": "well"}).value, "well")

    def test_daemons_are_that_user(self):
        for pid in descendants(self.node.process.pid):
            self.assertEqual(os.stat(f"/proc/{pid}").st_uid, NOBODY, harness.command_line(pid))

    def test_what_is_missing_is_said(self):
        import json
        from urllib.request import urlopen

        with urlopen(f"{self.node.endpoint}/v1/node") as reply:
            missing = json.load(reply)["missing"]
        self.assertTrue(any("egress" in sentence for sentence in missing), missing)

    def test_hostile_functions(self):
        name = deploy(self.api, "hostile", Timeout=2)
        for what in ("exit", "segfault", "kill_all", "sleep", "fork_bomb"):
            with self.subTest(what=what):
                self.assertTrue(invoke(self.api, name, {"do": what}).failed)
                self.assertEqual(invoke(self.api, name).value, "well")

    def test_when_it_ends_nothing_stays_behind(self):
        # The last one in the alphabet: the node is gone afterwards.
        processes = descendants(self.node.process.pid)
        self.assertEqual(self.node.stop(signal.SIGTERM), 0, self.node.log())
        eventually(lambda: not alive(processes), "all processes have ended")


if __name__ == "__main__":
    unittest.main()
