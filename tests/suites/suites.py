"""Test suites of real programs, each test without the library of hetero-socket and with it, compared.

A test that differs is run again in both ways, several times: only what the library makes worse in most of them is a difference;
what fails now and then in both is not. Needs Debian's apt-get with network for the suites that Debian has as sources.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as xml
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
# A network namespace: root's alone.
ALONE = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"] if os.geteuid() == 0 else []
# How a test went.
OK, FAILED, SKIPPED, HUNG, MISSING = "ok", "failed", "skipped", "hung", "missing"
# The library makes these of one test's outcome of less value.
WORTH = {OK: 3, SKIPPED: 2, FAILED: 1, MISSING: 0, HUNG: 0}


class Broker:
    """What programs with the library need, for as long as this is open."""

    def __init__(self, built, after):
        self.folder = Path(tempfile.mkdtemp(prefix="lichen-suites-"))
        place = self.folder / "broker"
        self.process = subprocess.Popen([built / "examples/broker", place], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit("the broker did not start")
        # A copy: it may be built anew meanwhile.
        library = shutil.copy(built / "liblichen_socket.so", self.folder)
        self.environment = {"LD_PRELOAD": library, "LICHEN_SOCKET_BROKER": str(place), "LICHEN_SOCKET_AFTER": str(after)}

    def close(self):
        """How many connections got memory."""
        self.process.stdin.close()
        met = int(self.process.stdout.readline())
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        return met


def run(words, *, cwd=None, environment=None, limit=600):
    """Runs a program with all that it starts: its exit status, None if it took too long, and what it said.

    Where this user may make one, it has a network of its own, of which there is nothing but loopback.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([*ALONE, *(str(word) for word in words)], cwd=cwd, env={**os.environ, **(environment or {})},
                                   stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        said.seek(0)
        return status, said.read().decode(errors="replace")


def source(package, cache, version=None):
    """The tar file of a Debian package's source, fetched by apt-get from where this machine has its packages."""
    folder = cache / "apt"
    for part in ("lists/partial", "archives/partial", "sources.d", "files"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    found = sorted((folder / "files").glob(f"{package}_*.orig.tar.*"))
    if found:
        return found[-1]
    # The same places, of which sources are wanted too.
    for file in Path("/etc/apt/sources.list.d").glob("*.sources"):
        text = re.sub(r"^Types:.*$", "Types: deb-src", file.read_text(), flags=re.M)
        if "debian.org" in text or "ubuntu.com" in text:
            (folder / "sources.d" / file.name).write_text(text)
    old = Path("/etc/apt/sources.list")
    if old.exists():
        text = re.sub(r"^deb\s", "deb-src ", old.read_text(), flags=re.M)
        (folder / "sources.d" / "old.list").write_text(text)
    options = [f"-oDir::State::Lists={folder}/lists", f"-oDir::Etc::SourceParts={folder}/sources.d",
               "-oDir::Etc::SourceList=/dev/null", "-oAPT::Sandbox::User=root", f"-oDir::Cache={folder}"]
    subprocess.run(["apt-get", "-qq", *options, "update"], check=True)
    listed = subprocess.run(["apt-cache", *options, "showsrc", package], check=True, capture_output=True, text=True).stdout
    versions = [line.split()[1] for line in listed.splitlines() if line.startswith("Version: ")]
    # Mirrors do not have all versions that they list.
    wanted = [each for each in versions if version is None or re.match(rf"(\d+:)?{re.escape(version)}\b", each)]
    for each in reversed(wanted):
        fetched = subprocess.run(["apt-get", "-qq", *options, "source", "--download-only", f"{package}={each}"],
                                 cwd=folder / "files", capture_output=True, text=True)
        found = sorted((folder / "files").glob(f"{package}_*.orig.tar.*"))
        if fetched.returncode == 0 and found:
            return found[-1]
    raise SystemExit(f"no source of {package} {version or ''} could be fetched: {fetched.stderr if wanted else listed[:500]}")


class Suite:
    """A suite: names of its parts, and what each test of a part came to."""

    # Parts that run at the same time.
    AT_ONCE = 1

    def __init__(self, options):
        self.options = options
        self.cache = options.cache
        self.cache.mkdir(parents=True, exist_ok=True)

    def parts(self):
        """Names of what can be run by itself."""
        raise NotImplementedError

    def run(self, part, environment):
        """The outcomes of its tests by name, and what it said."""
        raise NotImplementedError

    def again(self, test):
        """The part to run for one test alone."""
        raise NotImplementedError

    def version(self):
        raise NotImplementedError


class CPython(Suite):
    """The tests of the interpreter's own modules, by `python -m test`. Some ask for the network, of which there is loopback."""

    AT_ONCE = 2

    MODULES = """test_socket test_asyncio test_socketserver test_httplib test_httpservers test_selectors test_select test_poll
        test_epoll test_ftplib test_smtplib test_imaplib test_poplib test_ssl test_asyncore test_asynchat test_smtpd test_nntplib
        test_urllib2_localnet test_xmlrpc test_docxmlrpc test_telnetlib test_wsgiref test_robotparser test_logging test_signal
        test_subprocess test_os test_fcntl test_multiprocessing_fork test_multiprocessing_spawn
        test_multiprocessing_forkserver""".split()

    def __init__(self, options):
        super().__init__(options)
        self.python = options.program or self.interpreter()

    def interpreter(self):
        """One that has its tests."""
        asked = "import sys, test.test_socket; print(sys.executable)"
        for name in (sys.executable, "python3.11", "python3"):
            done = subprocess.run([name, "-c", asked], capture_output=True, text=True) if shutil.which(name) else None
            if done and done.returncode == 0:
                return done.stdout.strip()
        raise SystemExit("no Python here has its tests: name one with --program, or install Debian's libpython3-testsuite")

    def version(self):
        return "CPython " + subprocess.run([self.python, "-c", "import platform; print(platform.python_version())"],
                                           capture_output=True, text=True).stdout.strip()

    def parts(self):
        has = "import importlib.util, sys; print(*(m for m in sys.argv[1:] if importlib.util.find_spec('test.' + m)))"
        found = subprocess.run([self.python, "-c", has, *self.MODULES], capture_output=True, text=True).stdout.split()
        return found

    def run(self, part, environment):
        module, _, match = part.partition(" ")
        with tempfile.TemporaryDirectory(prefix="lichen-suites-") as folder:
            report = Path(folder) / "report.xml"
            words = [self.python, "-m", "test", "-v", "-u", "cpu,network", "-i", "*VSOCK*", "--timeout", "800", "--junit-xml",
                     report, module]
            status, said = run(words + (["-m", match] if match else []), cwd=folder,
                               environment={**environment, "TMPDIR": folder}, limit=900)
            outcomes = {}
            if report.exists():
                for case in xml.parse(report).iter("testcase"):
                    name = case.get("name")
                    if case.find("failure") is not None or case.find("error") is not None:
                        outcome = FAILED
                    elif case.find("skipped") is not None or case.get("result") == "skipped":
                        outcome = SKIPPED
                    else:
                        outcome = OK
                    # Of several parts of one test, the worst.
                    outcomes[name] = min(outcomes.get(name, outcome), outcome, key=WORTH.get)
            if not match:
                good = status == 0 and bool(outcomes) or status == 0
                outcomes[module] = HUNG if status is None else OK if good else FAILED
            return outcomes, said

    def again(self, test):
        # test.test_socket.Class.test_name, test.test_asyncio.test_sslproto.Class.test_name
        words = test.split(".")
        return f"{words[1]} {'.'.join(words[-2:])}" if words[0] == "test" and len(words) > 3 else None


class Node(Suite):
    """The files of Node's test/parallel and test/sequential, each a program: sockets, what is above them, child processes, clusters."""

    NAMES = re.compile(r"test-(net|http|https|http2|tls|cluster|child-process|stream-pipeline|tcp|pipe|listen)\b.*\.m?js$")
    AT_ONCE = 2
    PROGRAM = "node"

    def __init__(self, options):
        super().__init__(options)
        self.node = shutil.which(options.program or self.PROGRAM) or sys.exit("no Node here")
        self.folder = self.cache / "node"
        if not (self.folder / "test/parallel").is_dir():
            self.folder.mkdir(exist_ok=True)
            file = source("nodejs", self.cache)
            subprocess.run(["tar", "xf", file, "-C", self.folder, "--strip-components=1", "--wildcards", "*/test/*"], check=True)

    def version(self):
        said = subprocess.run([self.node, "--version"], capture_output=True, text=True).stdout.strip()
        file = sorted((self.cache / "apt/files").glob("nodejs_*.orig.tar.*"))
        return f"Node {said}, tests of {file[-1].name.split('_')[1].split('+')[0] if file else self.folder}"

    def parts(self):
        kinds = {"parallel", "sequential"}
        found = [f"{kind}/{file.name}" for kind in sorted(kinds) for file in sorted((self.folder / "test" / kind).iterdir())]
        return [part for part in found if self.NAMES.match(part.split("/")[1])]

    def run(self, part, environment, lane=0):
        file = self.folder / "test" / part
        text = file.read_text(errors="replace")
        flags = re.search(r"^// Flags:(.*)$", text, re.M)
        with tempfile.TemporaryDirectory(prefix="lichen-suites-") as folder:
            given = {**environment, "NODE_TEST_DIR": folder, "TEST_THREAD_ID": str(lane), "NODE_OPTIONS": ""}
            status, said = run([self.node, *(flags[1].split() if flags else []), file], cwd=self.folder, environment=given,
                               limit=60)
        skipped = status == 0 and said.lstrip().startswith("1..0 # Skipped")
        return {part: HUNG if status is None else SKIPPED if skipped else OK if status == 0 else FAILED}, said

    def again(self, test):
        return test


class Redis(Suite):
    """Redis's own `runtest`, with the programs that are installed."""

    AT_ONCE = 3
    LEFT_OUT = {"unit/printver", "unit/tls"}

    def __init__(self, options):
        super().__init__(options)
        said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout
        self.number = re.search(r"v=([\d.]+)", said)[1]
        self.folder = self.cache / f"redis-{self.number}"
        if not (self.folder / "tests").is_dir():
            self.folder.mkdir(exist_ok=True)
            subprocess.run(["tar", "xf", source("redis", self.cache, self.number), "-C", self.folder, "--strip-components=1",
                            "--wildcards", "*/tests/*", "*/utils/*", "*/redis.conf"], check=True)
            (self.folder / "src").mkdir()
        for name in ("redis-server", "redis-cli", "redis-benchmark", "redis-check-aof", "redis-check-rdb", "redis-sentinel"):
            link = self.folder / "src" / name
            if shutil.which(name) and not link.exists():
                link.symlink_to(shutil.which(name))

    def version(self):
        return f"Redis {self.number}"

    def parts(self):
        listed = re.search(r"set ::all_tests \{(.*?)\}", (self.folder / "tests/test_helper.tcl").read_text(), re.S)[1].split()
        return [part for part in listed if part not in self.LEFT_OUT]

    def run(self, part, environment):
        with tempfile.TemporaryDirectory(prefix="lichen-suites-") as folder:
            # Each run clears what others have written.
            for name in ("tests", "utils", "src"):
                shutil.copytree(self.folder / name, Path(folder) / name, symlinks=True)
            shutil.copy(self.folder / "redis.conf", folder)
            words = ["tclsh", "tests/test_helper.tcl", "--single", part, "--clients", "1", "--timeout", "240"]
            status, said = run(words, cwd=folder, environment=environment, limit=600)
        plain = re.sub(r"\x1b\[[\d;]*m", "", said)
        outcomes = {}
        for word, rest in re.findall(r"^\[(ok|err|exception|ignore|skip)\]:? ?(.*)$", plain, re.M):
            name = part + ": " + re.sub(r" \(\d+ ms\)$| in tests/.*$", "", rest)
            # Who follows whom is drawn anew each time, and how much there is then.
            name = re.sub(r"(Set|from) #\d+|\(x = \d+\)", r"\1", name)
            outcome = {"ok": OK, "ignore": SKIPPED, "skip": SKIPPED}.get(word, FAILED)
            if name in outcomes and outcome == OK:
                continue
            outcomes[name] = outcome
        if "[TIMEOUT]" in plain or status is None:
            outcomes[part] = HUNG
        else:
            outcomes[part] = OK if status == 0 else FAILED
        return outcomes, said

    def again(self, test):
        return test.split(": ")[0]


SUITES = {"cpython": CPython, "node": Node, "redis": Redis}


def compare(suite, parts, environments, logs):
    """Runs parts, each in both ways: the outcomes of all of their tests, without and with the library."""
    outcomes, ends, began = ({}, {}), len(parts), time.monotonic()

    def one(part):
        name = re.sub(r"[^\w.-]+", "_", part)[:100]
        found = []
        for way, environment in environments.items():
            came, said = suite.run(part, environment)
            (logs / way).mkdir(parents=True, exist_ok=True)
            (logs / way / f"{name}.txt").write_text(said)
            found.append(came)
        return part, *found

    with ThreadPoolExecutor(suite.AT_ONCE) as pool:
        for done, (part, before, after) in enumerate(pool.map(one, parts), 1):
            outcomes[0].update(before)
            outcomes[1].update(after)
            names = [name for name in before.keys() | after.keys()
                     if worse(before.get(name, MISSING), after.get(name, MISSING))]
            if names or done % 50 == 0 or len(parts) < 100:
                print(f"{done} of {ends}, {time.monotonic() - began:.0f} s: {part}: {len(before)} tests"
                      + "".join(f"\n  {before.get(name, MISSING)} -> {after.get(name, MISSING)}: {name}" for name in names),
                      flush=True)
    return outcomes


def count(outcomes):
    return ", ".join(f"{sum(1 for value in outcomes.values() if value == word)} {word}"
                     for word in (OK, FAILED, SKIPPED, HUNG) if word in outcomes.values())


def worse(without, with_library):
    return WORTH[with_library] < WORTH[without]


def main():
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("pattern", nargs="?", default="", help="a regular expression for parts: modules, files, units")
    parser.add_argument("--built", type=Path, default=Path("target/debug"), help="where the library and the broker were built")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/lichen/suites", help="where suites are kept")
    parser.add_argument("--program", help="the interpreter to test")
    parser.add_argument("--after", type=int, default=1, help="LICHEN_SOCKET_AFTER: calls after which a connection gets memory")
    parser.add_argument("--again", type=int, default=3, help="how often a test that differs is run again")
    parser.add_argument("--list", action="store_true", help="name the parts only")
    parser.add_argument("--logs", type=Path, help="where to write what the tests say")
    options = parser.parse_args()
    suite = SUITES[options.suite](options)
    parts = [part for part in suite.parts() if re.search(options.pattern, part)]
    if options.list or not parts:
        print(*parts or ["no such part"], sep="\n")
        return 0 if parts else 2
    logs = options.logs or Path(tempfile.mkdtemp(prefix="lichen-suites-logs-"))
    print(f"{suite.version()}: {len(parts)} parts; what they say is in {logs}", flush=True)
    known = tomllib.loads((HERE / "differences.toml").read_text()).get(options.suite, [])
    broker = Broker(options.built, options.after)
    ways = {"without": {}, "with": broker.environment}
    before, after = compare(suite, parts, ways, logs)
    print(f"without: {len(before)} tests: {count(before)}")
    print(f"with:    {len(after)} tests: {count(after)}", flush=True)
    names = [name for name in before.keys() | after.keys()
             if worse(before.get(name, MISSING), after.get(name, MISSING))]
    differing, unsteady = [], []
    for name in sorted(names):
        part = suite.again(name)
        if part is None:
            # A whole module: its tests are named, and are run again.
            if any(other != name and other.startswith(f"test.{name}.") for other in names):
                continue
            part = name
        runs = [[suite.run(part, environment)[0].get(name, MISSING) for _ in range(options.again)]
                for environment in ({}, broker.environment)]
        words = f"{name}: without {before.get(name, MISSING)} {runs[0]}, with {after.get(name, MISSING)} {runs[1]}"
        bad = [sum(worse(OK, outcome) for outcome in side if outcome != SKIPPED) for side in runs]
        (differing if bad[1] > bad[0] else unsteady).append((name, words))
    met = broker.close()
    print(f"connections that got memory: {met}")
    for name, words in unsteady:
        print(f"unsteady: {words}")
    unknown = []
    for name, words in differing:
        reason = next((entry["reason"] for entry in known if re.fullmatch(entry["test"], name)), None)
        print(f"differs: {words}" + (f"\n  known: {reason}" if reason else ""))
        unknown += [] if reason else [name]
    print(f"{len(before)} tests, {len(differing)} differ, {len(unknown)} of them not known")
    return 1 if unknown or not met else 0


if __name__ == "__main__":
    sys.exit(main())
