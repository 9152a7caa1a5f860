"""Runs every end-to-end test, and counts.

`test_*.py` are unittest modules; `*.test.mjs` are for Node's own runner. Those that want any node and not one of their
own find its address in LICHEN_ENDPOINT.

A few failures are looked at once more, each alone: what passes then was disturbed by what ran beside it, is listed as
unsteady, and is to be mended; what fails again has failed.
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness import Node  # noqa: E402

# More failures than this at once are no disturbance.
AGAIN_MAX = 5


def names_of(failed):
    """By what the loader finds them again: a test, or the class (or module) whose set-up failed."""
    ids = (test.id() for test, _ in failed)
    return sorted({re.sub(r"^(?:setUp|tearDown)(?:Class|Module) \((.*)\)$", r"\1", found).split()[0] for found in ids})


def python_tests(patterns):
    """Runs the unittest modules; answers passed, failed, skipped."""
    loader = unittest.defaultTestLoader
    names = sorted(path.stem for path in HERE.glob("test_*.py"))
    if patterns:
        names = [name for name in patterns if not name.endswith(".mjs")]
    runner = unittest.TextTestRunner(verbosity=2)
    result = runner.run(loader.loadTestsFromNames(names))
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    suspects = names_of(result.failures + result.errors)
    if 0 < failed <= AGAIN_MAX and suspects and not patterns:
        print("--- once more, alone:", *suspects, file=sys.stderr)
        again = runner.run(loader.loadTestsFromNames(suspects))
        lasting = names_of(again.failures + again.errors)
        failed = len(lasting) + len(result.unexpectedSuccesses)
        for name in suspects:
            if not any(other.startswith(name) for other in lasting):
                print(f"unsteady: {name}: failed among all others, passed alone", file=sys.stderr)
    for test, reason in result.skipped:
        print(f"skip: {test}: {reason}")
    return max(result.testsRun - failed - len(result.skipped), 0), failed, len(result.skipped)


def javascript_tests(patterns):
    """Runs the modules for Node's runner; answers passed, failed, skipped."""
    files = sorted(str(path) for path in HERE.glob("*.test.mjs"))
    if patterns:
        files = [str(HERE / name) for name in patterns if name.endswith(".mjs")]
    if not files:
        return 0, 0, 0
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", *files], stdout=subprocess.PIPE, text=True, cwd=HERE
    )
    counts = {name: int(count) for name, count in re.findall(r"^# (pass|fail|skipped) (\d+)$", done.stdout, re.M)}
    if done.returncode != 0 or not counts:
        print(done.stdout)
    failed = counts.get("fail", 0)
    if done.returncode != 0 and not failed:
        failed = 1
    return counts.get("pass", 0), failed, counts.get("skipped", 0)


def main(patterns):
    # A place of our own for temporary files: what is left there is this suite's.
    with tempfile.TemporaryDirectory(prefix="lichen-e2e-") as place:
        os.environ["TMPDIR"] = tempfile.tempdir = place
        os.chmod(place, 0o755)
        return run(patterns)


def run(patterns):
    with Node() as node:
        os.environ["LICHEN_ENDPOINT"] = node.endpoint
        outcomes = [python_tests(patterns), javascript_tests(patterns)]
        if any(failed for _, failed, _ in outcomes):
            print("--- the shared node's log ---", node.log(), sep="\n", file=sys.stderr)
    passed, failed, skipped = map(sum, zip(*outcomes))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
