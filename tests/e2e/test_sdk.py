"""AWS's SDKs for functions that bring none: installed beside a node that runs, found after what a function brings."""

import io
import json
import os
import shutil
import subprocess
import unittest
import zipfile

from harness import BINARY, Node
from test_boto3 import ROLE

PYTHON = """
def handler(event, context):
    import boto3
    return [boto3.__version__, boto3.__file__]
"""
COMMON = "exports.handler = async () => { const s3 = require('@aws-sdk/client-s3'); return [s3.version, require.resolve('@aws-sdk/client-s3')]; };"
MODULE = "import { version } from '@aws-sdk/client-s3';\nexport const handler = async () => [version];\n"
OWN = {"boto3/__init__.py": "__version__ = 'own'\n"}


def package(files):
    bytes_ = io.BytesIO()
    with zipfile.ZipFile(bytes_, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return bytes_.getvalue()


def wheel(folder, name, version, files):
    """The smallest wheel there can be."""
    info = f"{name}-{version}.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    (folder / f"{name}-{version}-py3-none-any.whl").write_bytes(package({**files, **metadata}))


class Sdks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # The tests' own Python has boto3: the node is to run one that has none, where there is one.
        folders = [folder for folder in os.environ["PATH"].split(":") if "venv" not in folder]
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        cls.node = Node(env={**environment, "PATH": ":".join(folders)})
        cls.addClassCleanup(cls.node.stop)
        cls.api = cls.node.client()

    def create(self, name, runtime, handler, files):
        self.api.create_function(
            FunctionName=name, Runtime=runtime, Role=ROLE, Handler=handler, Code={"ZipFile": package(files)}, Timeout=10
        )
        self.addCleanup(self.api.delete_function, FunctionName=name)

    def invoke(self, name):
        answer = self.api.invoke(FunctionName=name)
        return json.loads(answer["Payload"].read()), answer.get("FunctionError")

    def sdk(self, *arguments, **options):
        line = [BINARY, "sdk", *arguments, "--data-dir", self.node.folder]
        return subprocess.run(line, capture_output=True, text=True, timeout=120, **options)

    def test_python(self):
        self.create("python", "python3.11", "app.handler", {"app.py": PYTHON})
        self.create("own", "python3.11", "app.handler", {"app.py": PYTHON, **OWN})
        wheels = self.node.folder / "wheels"
        wheels.mkdir()
        wheel(wheels, "boto3", "9.9.1", {"boto3/__init__.py": "__version__ = '9.9.1'\n"})
        offline = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
        done = self.sdk("install", "python", env=offline)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("boto3 9.9.1", self.sdk("ls").stdout)
        self.assertEqual(self.invoke("own"), (["own", "/var/task/boto3/__init__.py"], None))
        found, failed = self.invoke("python")
        self.assertIsNone(failed, found)
        # An interpreter of the machine's own may have it as well, and goes before.
        self.assertTrue(found[0] == "9.9.1" or "site-packages" in found[1] or "dist-packages" in found[1], found)
        done = self.sdk("install", "python", "--with", "nothing-of-that-name", env=offline)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("could not be installed", done.stderr)

    def test_node(self):
        self.create("common", "nodejs20.x", "app.handler", {"app.js": COMMON})
        self.create("module", "nodejs20.x", "app.handler", {"app.mjs": MODULE})
        error, failed = self.invoke("common")
        self.assertEqual((failed, error["errorType"]), ("Unhandled", "Error"))
        place = self.node.folder / "sdk/node/node_modules/@aws-sdk/client-s3"
        place.mkdir(parents=True)
        (place / "package.json").write_text('{"name": "@aws-sdk/client-s3", "version": "3.0.7", "main": "index.js"}')
        (place / "index.js").write_text("exports.version = '3.0.7';")
        self.assertIn("@aws-sdk/client-s3 3.0.7", self.sdk("ls").stdout)
        self.assertEqual(self.invoke("common"), (["3.0.7", "/var/runtime/node_modules/@aws-sdk/client-s3/index.js"], None))
        self.assertEqual(self.invoke("module"), (["3.0.7"], None))
        own = {f"node_modules/@aws-sdk/client-s3/{name}": (place / name).read_text() for name in ("package.json", "index.js")}
        own["node_modules/@aws-sdk/client-s3/index.js"] = "exports.version = 'own';"
        self.create("common-own", "nodejs20.x", "app.handler", {"app.js": COMMON, **own})
        self.assertEqual(self.invoke("common-own")[0][0], "own")
        shutil.rmtree(place)

    def test_usage(self):
        self.assertEqual(self.sdk("install", "--with", "x").returncode, 2)
        self.assertEqual(self.sdk("install", "cobol").returncode, 2)


if __name__ == "__main__":
    unittest.main()
