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


STAGES = """
const [folder, stages, event] = process.argv.slice(1);
const functions = require(folder);
const run = async () => {
  let value = JSON.parse(event);
  for (const stage of stages.split(",")) value = JSON.parse(JSON.stringify(await functions[stage](value)));
  console.log(JSON.stringify(value));
};
run();
"""


@unittest.skipUnless(shutil.which("node"), "Node is not installed")
class Voice(unittest.TestCase):
    def run_stages(self, event, stages="frontend,intent,home,door,light"):
        command = ["node", "-e", STAGES, str(EXAMPLES / "voice"), stages, json.dumps(event)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def say(self, text, **home):
        return self.run_stages({"text": text, "home": home})

    def test_the_event(self):
        answer = self.run_stages(event_of("voice"))
        self.assertEqual(answer["home"]["door"]["front"], {"open": True, "locked": False})
        self.assertEqual(answer["home"]["light"]["living room"], {"on": True, "level": 40})
        self.assertEqual(answer["home"]["door"]["back"], {"open": False, "locked": True})
        self.assertTrue(answer["say"].endswith("“feed the cat”."), answer["say"])

    def test_what_is_heard_and_meant(self):
        heard = self.run_stages({"text": "Computer, could you turn the light off please; then lock the door"}, "frontend")
        self.assertEqual(heard["clauses"], ["turn the light off", "lock the door"])
        meant = self.run_stages({"clauses": heard["clauses"] + ["sing"], "home": {}}, "intent")
        self.assertEqual([intent["want"] for intent in meant["intents"]], ["off", "locked"])
        self.assertEqual(meant["unknown"], ["sing"])

    def test_doors_and_lights(self):
        door = {"front": {"open": True, "locked": False}}
        self.assertEqual(self.say("lock the door", door=door)["home"]["door"]["front"], {"open": False, "locked": True})
        locked = self.say("open the front door", door={"front": {"open": False, "locked": True}})
        self.assertEqual(locked["say"], "The front door is locked and stays closed.")
        both = self.say("Good night", door=door, light={"hall": {"on": True}, "attic": {"on": True}})
        self.assertEqual([light["on"] for light in both["home"]["light"].values()], [False, False])
        self.assertIn("attic light", self.say("turn on the attic light", light={"hall": {"on": False}})["say"])


class MapReduce(unittest.TestCase):
    def test_parts_lose_nothing(self):
        spec = importlib.util.spec_from_file_location("count", EXAMPLES / "mapreduce" / "count.py")
        count = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(count)
        text = "".join(f"line {number}\n" for number in range(100))
        for many in (1, 3, 7, 200):
            pieces = count.parts(text, many)
            self.assertEqual((len(pieces), "".join(pieces)), (many, text))


if __name__ == "__main__":
    unittest.main()
