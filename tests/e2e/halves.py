"""Namespaces that become one network, and the daemon that makes them so."""

import signal
import subprocess

from harness import BINARY, PATIENCE, alive, descendants, eventually


class Halves:
    """Of a test case, with a `folder` of its own."""

    daemon = None

    def namespace(self, name):
        path = self.folder / name
        path.touch()
        subprocess.run(["unshare", f"--net={path}", "ip", "link", "set", "lo", "up"], check=True, capture_output=True)
        self.addCleanup(lambda: subprocess.run(["umount", "-l", path], capture_output=True))
        return path

    def serve_net(self, *options, environment):
        line = [BINARY, "net", "serve", "--folder", self.folder / "net", *options]
        self.daemon = subprocess.Popen(list(map(str, line)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                       env=environment)
        self.assertIn("ready", self.daemon.stdout.readline())

    def stop(self, how=signal.SIGTERM):
        if self.daemon:
            family = descendants(self.daemon.pid)
            self.daemon.send_signal(how)
            self.daemon.wait(PATIENCE)
            self.daemon.stdout.close()
            self.daemon = None
            eventually(lambda: not alive(family), "the daemon's processes have ended")
