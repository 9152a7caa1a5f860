"""Runs every app in this process on the event it ships, and checks what it answers by other means.

    python3 -m unittest discover bench/apps
"""

import base64
import collections
import hashlib
import html.parser
import importlib.util
import io
import json
import unittest
from pathlib import Path

APPS = Path(__file__).parent


def load(app, module):
    spec = importlib.util.spec_from_file_location(f"{app}_{module}", APPS / app / f"{module}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def needs(*packages):
    # A folder of this place may bear a package's name; only a package that is installed has an origin.
    specs = {package: importlib.util.find_spec(package) for package in packages}
    missing = [package for package, spec in specs.items() if spec is None or spec.origin is None]
    return unittest.skipIf(missing, f"not installed: {', '.join(missing)} (pip install -r of the app's requirements.txt)")


def run(app):
    """The app's event, and its answer to it, both as they look after a journey as JSON."""
    fixed = APPS / app / "event.json"
    event = json.loads(fixed.read_text() if fixed.exists() else json.dumps(load(app, "event").event()))
    answer = load(app, "app").handler(event, None)
    return event, json.loads(json.dumps(answer))


class Cells(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.texts = []
        self.feed(page)

    def handle_data(self, data):
        self.texts += [data] if data.strip() else []


class Apps(unittest.TestCase):
    @needs("chameleon")
    def test_chameleon(self):
        event, answer = run("chameleon")
        page = load("chameleon", "app").handler(event | {"page": True}, None)["page"]
        self.assertEqual(answer, {"bytes": len(page), "sha256": hashlib.sha256(page.encode()).hexdigest()})
        texts = Cells(page).texts
        self.assertEqual(len(texts), event["rows"] * event["columns"])
        self.assertEqual((texts[0], texts[-1]), ("0 < 0 & 0", "199 < 208 & 1791"))

    @needs("numpy")
    def test_linpack(self):
        _, answer = run("linpack")
        self.assertLess(answer["residual"], 16)
        self.assertLess(answer["error"], 1e-8)
        self.assertGreater(answer["mflops"], 0)

    @needs("numpy")
    def test_matmul(self):
        event, answer = run("matmul")
        self.assertTrue(answer["verified"])
        self.assertEqual(answer, run("matmul")[1])
        self.assertNotEqual(answer["sha256"], load("matmul", "app").handler(event | {"seed": 2}, None)["sha256"])

    @needs("pyaes")
    def test_pyaes(self):
        # The digest is that of what `openssl enc -aes-128-ctr` makes of the message, with an IV of 1.
        expected = "068cd53002a062c6c412fbbf01e9df984623241e19fbc82f16a3ca9689c659e3"
        self.assertEqual(run("pyaes")[1], {"bytes": 256, "restored": True, "sha256": expected})

    def test_gzip(self):
        event, answer = run("gzip")
        log = event["log"].encode()
        self.assertEqual((answer["bytes"], answer["sha256"]), (len(log), hashlib.sha256(log).hexdigest()))
        self.assertTrue(0.05 < answer["packed"] / answer["bytes"] < 0.3, answer)

    def test_dd(self):
        event, answer = run("dd")
        self.assertEqual(answer["bytes"], event["block"] * event["count"])
        self.assertEqual(answer, run("dd")[1])

    @needs("PIL")
    def test_image_resize(self):
        _, answer = run("image_resize")
        from PIL import Image

        with Image.open(io.BytesIO(base64.b64decode(answer["image"]))) as small:
            self.assertEqual((small.format, small.size), ("JPEG", (200, 200)))
        self.assertEqual((answer["from"], answer["to"]), ([600, 400], [200, 200]))
        for channel, expected in zip(answer["mean"], (153, 78, 47)):
            self.assertAlmostEqual(channel, expected, delta=2)

    @needs("PIL", "numpy")
    def test_video(self):
        event, answer = run("video")
        pan = list(load("video", "event").PAN)
        self.assertEqual((answer["frames"], answer["movement"]), (24, [pan] * 23))
        self.assertLess(answer["grey_bytes"], sum(len(frame) for frame in event["frames"]))

    def test_mapreduce(self):
        event, answer = run("mapreduce")
        words = " ".join(event["documents"]).lower().replace(".", " ").split()
        counts = collections.Counter(words)
        self.assertEqual((answer["words"], answer["distinct"]), (len(words), len(counts)))
        self.assertEqual(len(answer["top"]), 10)
        for word, count in answer["top"]:
            self.assertEqual(count, counts[word])
        self.assertTrue(all(12_000 <= len(text) <= 31_000 for text in event["documents"]))


if __name__ == "__main__":
    unittest.main()
