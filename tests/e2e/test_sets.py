"""Pure functions over HTTP: forms, raw bodies, what clients accept; outputs that are kept."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import unittest
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from harness import REPOSITORY, lichen

ENDPOINT = os.environ.get("LICHEN_ENDPOINT", "http://127.0.0.1:9000")
GUEST = REPOSITORY / ".build/guest"
KIB, MIB = 1 << 10, 1 << 20


def program(name):
    path = GUEST / f"{name}.wasm"
    if not path.exists():
        raise unittest.SkipTest(f"{path.name} is not there: `make -C guest` makes it where clang and lld are")
    return path


def deployed(test, name, *options):
    """A function of its own for a class of tests."""
    function = f"{name}-{uuid.uuid4().hex[:8]}"
    made = lichen("deploy", program(name), "--name", function, "--runtime", "wasm", *options, endpoint=ENDPOINT)
    if made.returncode:
        raise AssertionError(made.stderr)
    test.addClassCleanup(lichen, "rm", function, endpoint=ENDPOINT)
    return function


def url(function):
    return f"{ENDPOINT}/v1/functions/{function}/invoke"


def items(answer):
    """The items of a JSON answer's only set."""
    (found,) = answer.json()["sets"].values()
    return sorted((item["name"], item["key"], item.get("text", item.get("data"))) for item in found)


class Forms(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.url = url(deployed(cls, "echo"))

    def post(self, status=200, **options):
        answer = requests.post(self.url, timeout=60, **options)
        self.assertEqual(answer.status_code, status, answer.text[:500])
        return answer

    def raw_form(self, text, status=400, boundary="b"):
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.post(status, data=text, headers=headers).json()

    def test_items_of_requests(self):
        files = [("a", ("x.txt", b"one")), ("a", ("é \"y\"", b"two")), ("b", ("z", b"\xff\x00")), ("c", (None, b"field"))]
        files[0] = ("a", ("x.txt", b"one", "text/plain", {"Item-Key": "7"}))
        expected = [("0", 0, "field"), ("x.txt", 7, "one"), ("z", 0, "/wA="), ("é \"y\"", 0, "two")]
        self.assertEqual(items(self.post(files=files)), expected)

    def test_items_of_curl(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "words.txt").write_bytes(b"w" * 100_000)
            form = ["-F", 'a=one;headers="Item-Key: 9"', "-F", "a=@words.txt", "-F", 'b=@words.txt;filename="q\\"r"']
            line = ["curl", "-sS", "--fail-with-body", "--max-time", "60", *form, self.url]
            said = subprocess.run(line, cwd=folder, capture_output=True, check=True, timeout=90)
        found = sorted((item["name"], item["key"], len(item["text"])) for item in json.loads(said.stdout)["sets"]["out"])
        self.assertEqual(found, [("0", 9, 3), ("q\"r", 0, 100_000), ("words.txt", 0, 100_000)])

    def test_a_form_for_who_accepts_one(self):
        files = [("a", ("x", b"one")), ("a", ("y", b"--\r\n" * 5000)), ("a", ("z", b""))]
        answer = self.post(files=files, headers={"Accept": "multipart/form-data"})
        boundary = re.fullmatch(r"multipart/form-data; boundary=(\w+)", answer.headers["Content-Type"]).group(1)
        parts = answer.content.split(f"--{boundary}".encode())
        self.assertEqual((len(parts), parts[-1]), (5, b"--\r\n"))
        self.assertIn(b'name="out"; filename="y"', parts[2])
        self.assertEqual(parts[2].partition(b"\r\n\r\n")[2], b"--\r\n" * 5000 + b"\r\n")
        # What a node writes a node reads.
        again = self.post(data=answer.content, headers={"Content-Type": answer.headers["Content-Type"]})
        self.assertEqual([name for name, _, _ in items(again)], ["x", "y", "z"])

    def test_a_single_item_is_what_it_is(self):
        known = [(b'{"a": 1}', "application/json"), ("é".encode(), "text/plain; charset=utf-8"), (b"\xff\x00", "application/octet-stream")]
        for data, content_type in known:
            answer = self.post(data=data)
            self.assertEqual((answer.content, answer.headers["Content-Type"]), (data, content_type))
        answer = self.post(data=b"text", headers={"Accept": "application/json"})
        self.assertEqual(items(answer), [("body", 0, "text")])

    def test_long_bodies(self):
        data = os.urandom(5 * MIB)
        self.assertEqual(self.post(data=data).content, data)
        halves = [("a", ("0", data[: 2 * MIB])), ("a", ("1", data[2 * MIB :]))]
        answer = self.post(files=halves, headers={"Accept": "multipart/form-data"})
        self.assertTrue(data[: 2 * MIB] in answer.content and data[2 * MIB :] in answer.content)
        self.post(413, data=bytes(7 * MIB))
        self.post(413, files=[("a", ("0", bytes(7 * MIB)))])
        # Nobody says beforehand how long it is.
        self.post(413, data=(bytes(MIB) for _ in range(7)))

    def test_a_thousand_parts_and_too_many(self):
        many = [("a", (str(number), b"x")) for number in range(1000)]
        self.assertEqual(len(items(self.post(files=many))), 1000)
        sets = [(f"s{number}", ("x", b"x")) for number in range(65)]
        self.assertIn("64 sets", self.post(400, files=sets).json()["message"])
        head = "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n"
        self.assertIn("more than 65536 parts", self.raw_form(head * 65_537 + "--b--")["message"])

    def test_forms_that_are_none(self):
        head = "--b\r\nContent-Disposition: form-data; name=a"
        for text, said in [
            ("", "does not begin"),
            ("--b\r\n", "the head of part 1"),
            (f"{head}\r\n\r\nx", "ends within part 1"),
            (f"{head}\r\n\r\nx\r\n--b\r\n\r\n\r\n--b--", "part 2 has no Content-Disposition"),
            (f"{head}\r\nItem-Key: -1\r\n\r\nx\r\n--b--", "not a whole number"),
            (f"{head}; filename=..\r\n\r\nx\r\n--b--", "mean folders"),
            (f"--b\r\nContent-Disposition: form-data; name=\"a/b\"\r\n\r\nx\r\n--b--", "'/'"),
        ]:
            self.assertIn(said, self.raw_form(text)["message"], text)
        self.assertIn("boundary", self.raw_form("x", boundary="")["message"])

    def test_lengths_that_lie_harm_nobody_else(self):
        place = urllib.parse.urlsplit(self.url)
        text = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b--"
        with socket.create_connection((place.hostname, place.port), 20) as connection:
            head = f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            connection.sendall(f"{head}Content-Length: {5 * MIB}\r\n\r\n".encode() + text)
            self.assertEqual(self.post(data=b"another").text, "another")

    def test_functions_of_other_kinds_get_sets_as_their_event(self):
        function = f"py-{uuid.uuid4().hex[:8]}"
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "app.py").write_text("def handler(event, context):\n    return event\n")
            made = lichen("deploy", folder, "--name", function, endpoint=ENDPOINT)
            self.assertEqual(made.returncode, 0, made.stderr)
        self.addCleanup(lichen, "rm", function, endpoint=ENDPOINT)
        answer = requests.post(url(function), files=[("a", ("x", b"one"))], timeout=60).json()
        self.assertEqual(answer, {"sets": {"a": [{"name": "x", "key": 0, "text": "one"}]}})


class Kept(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.function = deployed(cls, "echo", "--cache")

    def run_on(self, data, function=None):
        answer = requests.post(url(function or self.function), data=data, timeout=60)
        return answer.content, answer.headers.get("x-lichen-cache")

    def counts(self, function=None):
        name = function or self.function
        shown = requests.get(f"{ENDPOINT}/v1/functions", timeout=20).json()
        (counters,) = [one["counters"] for one in shown if one["name"] == name]
        return counters["cache_hits"], counters["cache_misses"], counters["invocations"]

    def test_the_same_inputs_run_once(self):
        one, two = uuid.uuid4().bytes, uuid.uuid4().bytes
        before = self.counts()
        seen = [self.run_on(data) for data in (one, one, two, one)]
        self.assertEqual(seen, [(one, None), (one, "hit"), (two, None), (one, "hit")])
        self.assertEqual([now - then for now, then in zip(self.counts(), before)], [2, 2, 2])
        page = requests.get(f"{ENDPOINT}/metrics", timeout=20).text
        for result in ("hit", "miss"):
            self.assertRegex(page, rf'lichen_cache_requests_total\{{[^}}]*function="{self.function}"[^}}]*result="{result}"\}} [1-9]')
        self.assertRegex(page, r"(?m)^lichen_cache_bytes [1-9]")
        self.assertIn("CACHED", lichen("top", "--once", endpoint=ENDPOINT).stdout)

    def test_many_at_once_run_once(self):
        data = os.urandom(100 * KIB)
        before = self.counts()
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: self.run_on(data)[0], range(32)))
        self.assertTrue(all(answer == data for answer in answers))
        self.assertEqual([now - then for now, then in zip(self.counts(), before)], [31, 1, 1])

    def test_new_code_is_another_function(self):
        function = f"again-{uuid.uuid4().hex[:8]}"
        self.addCleanup(lichen, "rm", function, endpoint=ENDPOINT)
        data = b"some words"
        with tempfile.TemporaryDirectory() as folder:
            for source in ("echo", "count"):
                path = shutil.copy(program(source), Path(folder) / "main.wasm")
                made = lichen("deploy", path, "--name", function, "--runtime", "wasm", "--cache", "--inputs", "chunk", endpoint=ENDPOINT)
                self.assertEqual(made.returncode, 0, made.stderr)
                first, second = self.run_on(data, function), self.run_on(data, function)
                self.assertEqual((first[1], second[1], first[0] == data), (None, "hit", source == "echo"))
                self.assertEqual(first[0], second[0])

    def test_failures_run_every_time(self):
        function = deployed(type(self), "hostile", "--cache")
        for _ in range(2):
            answer = requests.post(url(function), data=b"trap", timeout=60)
            self.assertEqual((answer.status_code, answer.headers.get("x-lichen-cache")), (502, None))
        self.assertEqual(self.counts(function)[:2], (0, 2))

    def test_who_does_not_ask_for_it_has_none(self):
        function = deployed(type(self), "echo")
        self.assertEqual([self.run_on(b"x", function)[1] for _ in range(2)], [None, None])
        self.assertEqual(self.counts(function)[:2], (0, 0))


if __name__ == "__main__":
    unittest.main()
