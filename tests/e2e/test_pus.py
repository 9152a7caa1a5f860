"""Several processing units on one machine: where functions run, and what becomes of it all when a unit is killed."""

import concurrent.futures
import json
import os
import signal
import threading
import unittest
import urllib.request

import harness
from harness import Node, alive, children, descendants, eventually, invoke, lichen

TWO = """
[dispatch]
worker_wait_s = 2

[[pu]]
name = "bf0"
kind = "dpu"
cpus = "0"
memory_mib = 768
price = 0.4
"""
THREE = TWO + """
[[pu]]
name = "bf1"
kind = "dpu"
price = 0.5
"""


def node_of(test, text):
    folder = harness.tempfile.mkdtemp()
    path = os.path.join(folder, "lichen.toml")
    with open(path, "w") as file:
        file.write(text)
    return test.enterContext(Node("--config", path))


def get(node, path):
    with urllib.request.urlopen(node.endpoint + path) as answer:
        return json.load(answer)


def pus(node):
    return {pu["name"]: pu for pu in get(node, "/v1/pus")}


def wait_for(node, *names):
    """Until these units can start Python functions."""

    def can_start():
        ready = [t["pu"] for t in get(node, "/v1/templates") if t["kind"] == "python" and t["phase"] == "ready"]
        return all(pus(node)[name]["ready"] and name in ready for name in names)

    eventually(can_start, f"{names} can start functions")


def where(node, function):
    """The unit of a function's latest bill."""
    return eventually(lambda: get(node, f"/v1/functions/{function}/bills?limit=1"), "there is a bill")[0]


class Unit:
    """The processes of a unit, by what they are."""

    def __init__(self, node, name):
        def find():
            for pid in children(node.process.pid):
                words = harness.command_line(pid)
                if words[1:2] == ["unit"] and any(word.endswith("stages/" + name) for word in words):
                    inside = children(pid)
                    roles = {harness.command_line(role)[1]: role for i in inside for role in children(i)}
                    if {"worker", "shim"} <= roles.keys():
                        return pid, inside[0], roles["worker"], roles["shim"]

        self.outside, self.inside, self.worker, self.shim = eventually(find, f"the unit {name} runs")
        self.processes = descendants(self.outside)


def clear(owner):
    return not harness.groups(owner) and not [
        entry for entry in os.listdir("/sys/fs/cgroup/cpuset") if entry.startswith(f"lichen-{owner}-")
    ] if os.path.isdir("/sys/fs/cgroup/cpuset") else not harness.groups(owner)


@unittest.skipUnless(os.geteuid() == 0, "units with a network and bounds take root")
class Placement(unittest.TestCase):
    def setUp(self):
        self.interfaces = harness.network_interfaces()
        self.node = node_of(self, THREE)
        self.api = self.node.client()

    def test_functions_run_where_their_profiles_say(self):
        wait_for(self.node, "host", "bf0", "bf1")
        cases = [([], "host", 256, 1), (["cpu"], "host", 256, 1), (["dpu"], "bf0", 256, 0.4)]
        cases += [(["dpu:memory=192:price=0.1", "cpu"], None, 192, 0.1)]
        for profiles, unit, memory, price in cases:
            function = self.deploy(profiles)
            answer = invoke(self.api, function, log=True)
            self.assertIn(f"Memory Size: {memory} MB", answer.log)
            bill = where(self.node, function)
            self.assertIn(bill["pu"], [unit] if unit else ["bf0", "bf1"])
            self.assertEqual((bill["memory_mib"], bill["price"]), (memory, price))
            self.assertGreater(bill["cost_micros"], 0)

    def deploy(self, profiles, name=None, minimum=0):
        name = name or f"f{len(get(self.node, '/v1/functions'))}"
        words = ["--pu", ",".join(profiles)] if profiles else []
        words += ["--min-warm", minimum] if minimum else []
        done = lichen(
            "deploy", harness.FIXTURES / "counter", "--name", name, "--memory", 256, *words, endpoint=self.node.endpoint
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return name

    def test_profiles_outlive_changes_through_lambdas_api(self):
        function = self.deploy(["dpu:memory=192", "cpu"])
        self.api.update_function_configuration(FunctionName=function, Timeout=7)
        shown = json.loads(lichen("ls", "-o", "json", endpoint=self.node.endpoint).stdout)
        self.assertEqual(shown[0]["pu"], ["dpu:memory=192", "cpu"])
        refused = lichen(
            "deploy", harness.FIXTURES / "counter", "--name", "g", "--pu", "fpga", endpoint=self.node.endpoint
        )
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("is to run on fpga", refused.stderr)

    def test_units_are_shown(self):
        wait_for(self.node, "bf0", "bf1")
        function = self.deploy(["dpu"])
        invoke(self.api, function)
        shown = json.loads(lichen("pu", "ls", "-o", "json", endpoint=self.node.endpoint).stdout)
        self.assertEqual([pu["name"] for pu in shown], ["host", "bf0", "bf1"])
        self.assertEqual(shown[0]["cores"], len(os.sched_getaffinity(0)), "all of the machine")
        bf0 = shown[1]
        self.assertEqual((bf0["kind"], bf0["tier"], bf0["cpus"], bf0["memory_mib"]), ("dpu", "namespace", "0", 768))
        self.assertGreaterEqual(bf0["instances"], 1)
        table = lichen("pu", "ls", endpoint=self.node.endpoint).stdout
        self.assertRegex(table, r"bf0 +dpu +namespace +ready +0 +\d+ of 768 MiB +0\.4 ")
        self.assertIn("bf1", lichen("top", "--once", endpoint=self.node.endpoint).stdout)
        with urllib.request.urlopen(self.node.endpoint + "/metrics") as answer:
            self.assertIn('lichen_pu_ready{pu="bf1",kind="dpu"} 1', answer.read().decode())

    def test_a_unit_is_a_machine_of_its_own(self):
        unit = Unit(self.node, "bf0")
        for kind in ("pid", "net", "mnt", "uts", "ipc"):
            self.assertNotEqual(os.readlink(f"/proc/{unit.worker}/ns/{kind}"), os.readlink(f"/proc/self/ns/{kind}"))
        status = open(f"/proc/{unit.worker}/status").read()
        self.assertRegex(status, r"Cpus_allowed_list:\t0\n")
        self.assertRegex(status, rf"NSpid:\t{unit.worker}\t\d\n")
        groups = open(f"/proc/{unit.worker}/cgroup").read()
        self.assertIn(f"lichen-{unit.outside}-", groups)
        # A way to the host, and no device of the host's.
        self.assertEqual(open(f"/proc/{unit.worker}/net/dev").read().count("eth0:"), 1)
        self.assertTrue(harness.network_interfaces() - self.interfaces)

    def test_the_end_leaves_nothing(self):
        wait_for(self.node, "bf0", "bf1")
        units = [Unit(self.node, name) for name in ("bf0", "bf1")]
        everything = descendants(self.node.process.pid)
        self.assertEqual(self.node.stop(), 0, self.node.log())
        eventually(lambda: not alive(everything), "all processes have ended")
        for unit in units:
            eventually(lambda: clear(unit.outside), "no control group is left")
        self.assertEqual(harness.network_interfaces(), self.interfaces)

    def test_functions_meet_the_shim_of_their_unit(self):
        for profile, unit in [("cpu", "host"), ("dpu", "bf0")]:
            wait_for(self.node, unit)
            function = self.deploy([profile])
            folder = self.node.folder / "shims" / unit
            self.assertEqual(os.listdir(folder), ["shim.sock"])
            code = "import socket\ndef handler(event, context):\n s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            code += " s.connect('/run/lichen/shim.sock')\n return 'attached'\n"
            self.api.update_function_code(FunctionName=function, ZipFile=harness.zip_of({"app.py": code}))
            self.assertEqual(invoke(self.api, function).value, "attached")

    def test_a_killed_supervisor_leaves_nothing(self):
        units = [Unit(self.node, name) for name in ("bf0", "bf1")]
        everything = descendants(self.node.process.pid)
        self.node.stop(signal.SIGKILL)
        eventually(lambda: not alive(everything), "all processes have ended")
        for unit in units:
            eventually(lambda: clear(unit.outside), "no control group is left")
        eventually(lambda: harness.network_interfaces() == self.interfaces, "no device is left")


@unittest.skipUnless(os.geteuid() == 0, "units with a network and bounds take root")
class Loss(unittest.TestCase):
    """A unit is killed under load, ten times, wherever it can be hit."""

    def setUp(self):
        self.interfaces = harness.network_interfaces()
        self.node = node_of(self, TWO)
        self.api = self.node.client(max_pool_connections=20)
        wait_for(self.node, "host", "bf0")

    def deploy(self, name, profiles):
        arguments = ["--pu", profiles, "--timeout", 10, "--memory", 128]
        done = lichen(
            "deploy", harness.FIXTURES / "sleeper", "--name", name, *arguments, endpoint=self.node.endpoint
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def call(self, name, good, stop):
        """Calls until it is told to stop, with an entry in `good` for what went well: what was said when it did not."""
        bad = []
        while not stop.is_set():
            try:
                answer = invoke(self.api, name, {"ms": 5})
                if answer.failed:
                    bad.append(str(answer.value))
                else:
                    good.append(name)
            except Exception as error:
                bad.append(str(error))
        return bad

    def test_ten_kills_under_load(self):
        for name, profiles in [("home", "cpu"), ("away", "dpu"), ("both", "dpu,cpu")]:
            self.deploy(name, profiles)
        stop, units = threading.Event(), []
        good = {name: [] for name in ("home", "away", "both")}
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            calls = {name: [pool.submit(self.call, name, good[name], stop) for _ in range(2)] for name in good}
            try:
                for event in range(20):
                    self.api.invoke(FunctionName="away", InvocationType="Event", Payload=b'{"ms": 5}')
                for round in range(10):
                    unit = Unit(self.node, "bf0")
                    units.append(unit)
                    os.kill([unit.outside, unit.inside, unit.worker, unit.shim][round % 4], signal.SIGKILL)
                    eventually(lambda: not alive(unit.processes), "the unit has ended as a whole")
                    eventually(lambda: pus(self.node)["bf0"]["losses"] > round, "the loss is seen")
                    wait_for(self.node, "bf0")
                    done = {name: len(these) for name, these in good.items()}
                    eventually(lambda: all(len(good[name]) > done[name] for name in good), "all are served again")
            finally:
                stop.set()
        complaints = {name: [text for call in these for text in call.result()] for name, these in calls.items()}
        self.assertEqual(complaints["home"], [], "nobody else notices")
        for text in complaints["away"] + complaints["both"]:
            self.assertRegex(text, "is gone|no such PU is up|no worker", "an error says what happened")
        # What was accepted is handled.
        eventually(lambda: get(self.node, "/v1/queue")["depth"] == 0, "the events are handled", limit=90)
        self.assertEqual(get(self.node, "/v1/queue")["dead"], 0)
        self.assertFalse(invoke(self.api, "away", {"ms": 1}).failed)
        self.assertEqual(where(self.node, "away")["pu"], "bf0")
        self.assertEqual(self.node.roles().keys(), {"gateway", "worker", "shim", "broker"})
        for unit in units:
            eventually(lambda: clear(unit.outside), "no control group of a killed unit is left")
        self.assertEqual(self.node.stop(), 0, self.node.log())
        self.assertEqual(harness.network_interfaces(), self.interfaces)

    def test_a_function_whose_only_unit_is_down_says_so(self):
        self.deploy("away", "dpu")
        unit = Unit(self.node, "bf0")
        os.kill(unit.outside, signal.SIGSTOP)
        try:
            # It cannot be started again while the one that would notice is stopped.
            os.kill(unit.inside, signal.SIGKILL)
            eventually(lambda: not pus(self.node)["bf0"]["ready"], "the loss is seen")
            with self.assertRaises(Exception) as raised:
                invoke(self.api, "away", {"ms": 1})
            self.assertRegex(str(raised.exception), "runs on dpu, and no such PU is up")
            self.assertEqual(urllib.request.urlopen(self.node.endpoint + "/readyz").status, 200)
        finally:
            os.kill(unit.outside, signal.SIGCONT)
        wait_for(self.node, "bf0")
        self.assertFalse(invoke(self.api, "away", {"ms": 1}).failed)


if __name__ == "__main__":
    unittest.main()
