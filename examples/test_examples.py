"""Runs the handlers of the examples as plain code: what they answer does not depend on the platform."""

import base64
import importlib.util
import io
import json
import shutil
import subprocess
import unittest
from pathlib import Path

EXAMPLES = Path(__file__).parent

CALL = """
const [folder, event] = process.argv.slice(1);
require(folder).handler(JSON.parse(event), { functionName: "greet" }).then((answer) => console.log(JSON.stringify(answer)));
"""

try:
    from PIL import Image
except ModuleNotFoundError:
    Image = None


def event_of(example):
    return json.loads((EXAMPLES / example / "event.json").read_text())


@unittest.skipUnless(Image, "Pillow is not installed: pip install -r examples/thumbnail/requirements.txt")
class Thumbnail(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        spec = importlib.util.spec_from_file_location("thumbnail", EXAMPLES / "thumbnail" / "app.py")
        cls.app = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(cls.app)

    def check(self, event, before, after):
        answer = self.app.handler(event, None)
        jpeg = base64.b64decode(answer["image"])
        self.assertEqual(answer["from"], dict(zip(("width", "height"), before)))
        self.assertEqual(answer["to"], {"width": after[0], "height": after[1], "bytes": len(jpeg)})
        with Image.open(io.BytesIO(jpeg)) as small:
            self.assertEqual((small.format, small.size), ("JPEG", after))

    def test_the_image_of_the_event(self):
        self.check(event_of("thumbnail"), (300, 200), (96, 64))

    def test_the_photo_beside_the_handler(self):
        self.check({"width": 200, "height": 200}, (600, 400), (200, 133))


@unittest.skipUnless(shutil.which("node"), "Node is not installed")
class Greet(unittest.TestCase):
    def greet(self, event):
        command = ["node", "-e", CALL, str(EXAMPLES / "greet"), json.dumps(event)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def test_an_event_and_a_url(self):
        self.assertEqual(self.greet(event_of("greet")), {"message": "Bonjour, Ada!", "function": "greet"})
        self.assertEqual(self.greet({"queryStringParameters": {"name": "Bo"}})["message"], "Hello, Bo!")

    def test_a_language_it_does_not_speak(self):
        self.assertEqual(self.greet({"language": "tlh"})["message"], "Hello, world!")


if __name__ == "__main__":
    unittest.main()
