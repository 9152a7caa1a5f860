"""The command line against real nodes: what it prints where, and how it ends."""

import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import uuid
from pathlib import Path

import harness
from harness import BINARY, FIXTURES, REPOSITORY, Node, alive, descendants, eventually, lichen, package

DONE, FUNCTION_FAILED, WRONG_USAGE, PLATFORM_FAILED = range(4)
GREET = REPOSITORY / "examples/greet"
THUMBNAIL = REPOSITORY / "examples/thumbnail"


def unused(prefix="f"):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def temporary_files():
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("lichen-run-")}


class Verbs(unittest.TestCase):
    """deploy, invoke, ls, logs, rm and top on a node."""

    @classmethod
    def setUpClass(cls):
        cls.node = cls.enterClassContext(Node())

    def lichen(self, *arguments, **options):
        return lichen(*arguments, endpoint=self.node.endpoint, **options)

    def check(self, done, status, stdout=None, stderr=None):
        self.assertEqual(done.returncode, status, done)
        if stdout is not None:
            self.assertIn(stdout, done.stdout, done)
        if stderr is not None:
            self.assertIn(stderr, done.stderr, done)
        return done

    def deploy(self, path, *options):
        name = unused()
        self.check(self.lichen("deploy", path, "--name", name, *options), DONE, f"{name} is deployed")
        return name

    def answer(self, name, *options, **more):
        done = self.check(self.lichen("invoke", name, *options, **more), DONE)
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout)

    def test_a_folder_a_file_and_a_zip(self):
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "code.zip"
            archive.write_bytes(package(FIXTURES / "counter"))
            for path in (FIXTURES / "counter", FIXTURES / "counter/app.py", archive):
                self.assertEqual(self.answer(self.deploy(path))["calls"], 1)

    def test_nodejs(self):
        name = self.deploy(GREET)
        self.assertEqual(self.answer(name, "-d", '{"name": "Ada"}')["message"], "Hello, Ada!")
        self.assertEqual(self.answer(name, "-d", f"@{GREET / 'event.json'}")["message"], "Bonjour, Ada!")
        self.assertEqual(self.answer(name, "-d", "-", data='{"name": "Bo"}')["message"], "Hello, Bo!")

    def test_dependencies_are_installed_once(self):
        name, again = unused(), unused()
        with tempfile.TemporaryDirectory() as cache:
            environment = {"XDG_CACHE_HOME": cache}
            first = self.lichen("deploy", THUMBNAIL, "--name", name, "--memory", 512, timeout=300, env=environment)
            self.check(first, DONE, stderr="installing")
            second = self.check(self.lichen("deploy", THUMBNAIL, "--name", again, "--memory", 512, env=environment), DONE)
            self.assertNotIn("installing", second.stderr)
        self.assertEqual(self.answer(name, "-d", '{"width": 20}')["to"]["width"], 20)

    def test_settings_arrive(self):
        name = self.deploy(
            FIXTURES / "counter", "--env", "GREETING=a=b", "--memory", 200, "--timeout", 7, "--runtime", "python",
            "--handler", "app.handler", "--isolation", "request", "--max-concurrency", 3, "--min-warm", 1,
        )
        first, second = self.answer(name), self.answer(name)
        self.assertEqual(first["greeting"], "a=b")
        self.assertNotEqual(first["instance"], second["instance"])
        api = self.node.client()
        configuration = api.get_function_configuration(FunctionName=name)
        self.assertEqual((configuration["MemorySize"], configuration["Timeout"]), (200, 7))
        reserved = api.get_function_concurrency(FunctionName=name)
        self.assertEqual(reserved["ReservedConcurrentExecutions"], 3)

    def test_a_second_deployment_updates(self):
        name = self.deploy(FIXTURES / "counter", "--env", "GREETING=one")
        self.assertEqual(self.answer(name)["greeting"], "one")
        done = self.lichen("deploy", FIXTURES / "counter", "--name", name, "--env", "GREETING=two")
        self.check(done, DONE, "its code as before")
        self.assertEqual(self.answer(name)["greeting"], "two")
        self.check(self.lichen("deploy", GREET, "--name", name), DONE, f"{name} is deployed anew")
        self.assertEqual(self.answer(name)["message"], "Hello, world!")

    def test_a_function_that_fails(self):
        name = self.deploy(FIXTURES / "hostile")
        done = self.lichen("invoke", name, "-d", '{"do": "raise"}')
        self.check(done, FUNCTION_FAILED, stderr="the function failed: KeyError: 'no such key'")
        self.assertEqual(json.loads(done.stdout)["errorType"], "KeyError")

    def test_logs(self):
        name = self.deploy(FIXTURES / "counter")
        done = self.check(self.lichen("invoke", name, "--log"), DONE, stderr="called 1")
        self.assertIn("REPORT RequestId", done.stderr)
        eventually(lambda: "called 1" in self.lichen("logs", name).stdout, "the log is there")
        records = [json.loads(line) for line in self.lichen("logs", name, "-o", "json").stdout.splitlines()]
        self.assertTrue(any(record["message"].strip() == "called 1" for record in records), records)
        self.assertEqual(self.lichen("logs", name, "--since", "2100-01-01T00:00:00Z").stdout, "")
        follow = subprocess.Popen(
            [BINARY, "logs", name, "-f", "--endpoint", self.node.endpoint], stdout=subprocess.PIPE, text=True
        )
        try:
            self.read_until(follow.stdout, "called 1")
            self.answer(name)
            self.read_until(follow.stdout, "called 2")
        finally:
            follow.kill()
            follow.wait()
            follow.stdout.close()

    def read_until(self, stream, text):
        os.set_blocking(stream.fileno(), False)
        seen = ""

        def arrived():
            nonlocal seen
            select.select([stream], [], [], 0.1)
            seen += stream.read() or ""
            return text in seen

        eventually(arrived, f"{text!r} is in the log")

    def test_lists(self):
        name = self.deploy(FIXTURES / "counter")
        self.answer(name)
        self.check(self.lichen("ls"), DONE, name)
        functions = {function["name"]: function for function in json.loads(self.lichen("ls", "-o", "json").stdout)}
        self.assertEqual(functions[name]["counters"]["invocations"], 1)
        self.check(self.lichen("top"), DONE, name)
        self.assertIn("concurrency", json.loads(self.lichen("top", "-o", "json").stdout)["node"])
        self.check(self.lichen("rm", name), DONE)
        self.assertNotIn(name, self.lichen("ls").stdout)

    def test_json_of_a_deployment(self):
        name = unused()
        done = self.check(self.lichen("deploy", GREET, "--name", name, "-o", "json"), DONE)
        self.assertEqual((json.loads(done.stdout)["FunctionName"], done.stderr), (name, ""))

    def test_what_is_wrong_is_said(self):
        for arguments, said in [
            (["invoke", "nobody"], "Function not found"),
            (["rm", "nobody"], "Function not found"),
            (["logs", "nobody"], "ot found"),
            (["invoke", "nobody", "-d", "{a"], "not JSON"),
            (["deploy", "no/such/path", "--name", "x"], "no/such/path"),
            (["deploy", HERE_IS_NO_CODE, "--name", "x"], "neither a .py nor"),
            (["deploy", GREET, "--name", "no good name"], "no good name"),
            (["deploy", GREET, "--name", "x", "--handler", "nope.handler"], "no nope.js"),
            (["deploy", GREET, "--name", "x", "--memory", "1"], "emory"),
            (["deploy", GREET, "--name", "x", "--isolation", "none"], "instance and request"),
            (["ls", "--endpoint", "https://x"], "http://"),
        ]:
            with self.subTest(arguments=arguments):
                self.check(self.lichen(*arguments), WRONG_USAGE, stderr=said)

    def test_nobody_there(self):
        done = lichen("ls", endpoint="http://127.0.0.1:1")
        self.check(done, PLATFORM_FAILED, stderr="no node answers")


HERE_IS_NO_CODE = REPOSITORY / "docs"


class Run(unittest.TestCase):
    """A throw-away node for one invocation."""

    def setUp(self):
        self.before = temporary_files()

    def tearDown(self):
        self.assertEqual(temporary_files() - self.before, set())

    def test_an_answer_and_nothing_else(self):
        begun = time.monotonic()
        done = lichen("run", GREET, "-d", '{"name": "Ada"}', endpoint="http://127.0.0.1:1")
        took = time.monotonic() - begun
        self.assertEqual(done.returncode, DONE, done)
        self.assertEqual(json.loads(done.stdout)["message"], "Hello, Ada!")
        self.assertLess(took, 10)

    def test_the_thumbnail(self):
        done = lichen("run", THUMBNAIL, "-d", f"@{THUMBNAIL / 'event.json'}", "--memory", 512, timeout=300)
        self.assertEqual(done.returncode, DONE, done.stderr)
        self.assertIn("image", json.loads(done.stdout))

    def test_a_function_that_fails(self):
        done = lichen("run", FIXTURES / "hostile", "-d", '{"do": "exit"}')
        self.assertEqual(done.returncode, FUNCTION_FAILED, done)
        self.assertEqual(json.loads(done.stdout)["errorType"], "Runtime.ExitError")

    def test_a_wasm_file_that_is_none(self):
        with tempfile.NamedTemporaryFile(suffix=".wasm") as file:
            done = lichen("run", file.name)
        self.assertEqual((done.returncode, done.stdout), (WRONG_USAGE, ""))
        self.assertIn("is not a WebAssembly program", done.stderr)

    def interrupted(self, number):
        process = subprocess.Popen(
            [BINARY, "run", FIXTURES / "hostile", "-d", '{"do": "sleep"}', "--timeout", "60"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        eventually(lambda: temporary_files() - self.before, "the node has a folder")
        # Processes: the verb, the gateway, the worker, the nursery, an init, a template, and the instance in its slot.
        eventually(lambda: len(descendants(process.pid)) >= 7, "an instance runs")
        processes = descendants(process.pid)
        process.send_signal(number)
        out, err = process.communicate(timeout=harness.PATIENCE)
        eventually(lambda: not alive(processes), "all processes have ended")
        return process.returncode, out, err

    def test_interrupted(self):
        status, out, err = self.interrupted(signal.SIGINT)
        self.assertEqual((status, out), (PLATFORM_FAILED, ""), err)
        self.assertIn("interrupted", err)

    def test_killed(self):
        self.interrupted(signal.SIGKILL)
        # Its folder is what the next one removes.
        self.assertNotEqual(temporary_files() - self.before, set())
        self.assertEqual(lichen("run", GREET).returncode, DONE)


class Serve(unittest.TestCase):
    def test_a_port_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as taken, tempfile.TemporaryDirectory() as folder:
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            done = lichen("serve", "--listen", address, "--data-dir", folder)
        self.assertEqual(done.returncode, WRONG_USAGE, done)
        self.assertIn("is in use", done.stderr)
        self.assertIn("--listen", done.stderr)

    def test_a_folder_that_is_taken(self):
        with Node() as node:
            done = lichen("serve", "--listen", "127.0.0.1:0", "--data-dir", node.folder)
            self.assertEqual(done.returncode, WRONG_USAGE, done)
            self.assertIn(f"process id {node.process.pid}:", done.stderr)

    def test_a_configuration_that_is_wrong(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lichen.toml"
            for text, said in [("[node]\nlisten = 3\n", "lichen.toml:2"), ("[nodes]\n", "did you mean `node`?")]:
                path.write_text(text)
                done = lichen("serve", "--config", path, "--data-dir", folder, "--listen", "127.0.0.1:0")
                self.assertEqual(done.returncode, WRONG_USAGE, done)
                self.assertIn(said, done.stderr)

    def test_functions_survive_a_restart(self):
        with tempfile.TemporaryDirectory() as folder:
            name = unused()
            for round_ in range(2):
                with Node(folder=folder) as node:
                    if round_ == 0:
                        lichen("deploy", GREET, "--name", name, endpoint=node.endpoint)
                    done = lichen("invoke", name, endpoint=node.endpoint)
                    self.assertEqual(json.loads(done.stdout)["message"], "Hello, world!", done)

    def test_a_log_for_programs(self):
        with Node("--log", "json") as node:
            node.stop()
            lines = [line for line in node.log().splitlines() if line.startswith("{")]
            self.assertTrue(lines, node.log())
            for line in lines:
                self.assertIn("message", json.loads(line))


if __name__ == "__main__":
    unittest.main()
