"""Several versions of a language on one node, and functions that ask for others."""

import base64
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import boto3
from botocore.exceptions import ClientError

from harness import BINARY, Node, eventually
from test_boto3 import ROLE, package

SOURCE = "import sys\n\ndef handler(event, context):\n    return list(sys.version_info[:2])\n"


def another_python():
    """A Python of another version than the tests' own, 3.12 or later."""
    folders = [Path("/usr/bin"), Path("/usr/local/bin"), *Path.home().glob(".pyenv/versions/*/bin")]
    for minor in (12, 13, 14):
        for folder in folders:
            program = folder / f"python3.{minor}"
            if sys.version_info[1] != minor and program.exists():
                works = subprocess.run([program, "-c", "pass"], capture_output=True).returncode == 0
                if works:
                    return program, minor
    return None, None


class Versions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.own = sys.version_info[1]
        cls.program, cls.minor = another_python()

    def node(self, text):
        config = Path(self.enterContext(tempfile.TemporaryDirectory())) / "lichen.toml"
        config.write_text(text)
        node = self.enterContext(Node("--config", config))
        return node.client()

    def run_on(self, api, runtime, name=None, **settings):
        name = name or runtime.replace(".", "-")
        api.create_function(
            FunctionName=name, Runtime=runtime, Role=ROLE, Handler="app.handler", Code={"ZipFile": package(SOURCE)}, Timeout=10,
            **settings,
        )
        answer = api.invoke(FunctionName=name, LogType="Tail")
        self.assertNotIn("FunctionError", answer)
        self.assertTrue(base64.b64decode(answer["LogResult"]).startswith(b"START "))
        logs = boto3.client(
            "logs", endpoint_url=api.meta.endpoint_url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        read = lambda: [event["message"] for event in logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]]
        log = eventually(lambda: (lines := read()) and "REPORT" in lines[-1] and lines, "the log is written")
        return json.loads(answer["Payload"].read()), "\n".join(log)

    def test_each_function_gets_its_own(self):
        if not self.program:
            self.skipTest("this machine has one Python only, from 3.11 on")
        api = self.node(f'[runtime]\ninterpreters = ["{self.program}"]\n')
        for minor in (self.own, self.minor):
            version, log = self.run_on(api, f"python3.{minor}")
            self.assertEqual(version, [3, minor])
            self.assertIn(f"INIT_START Runtime Version: python:3.{minor}\n", log)
            wrapper = {"AWS_LAMBDA_EXEC_WRAPPER": "/usr/bin/env"}
            version, log = self.run_on(api, f"python3.{minor}", name=f"wrapped-{minor}", Environment={"Variables": wrapper})
            self.assertEqual(version, [3, minor])
            self.assertIn(f"INIT_START Runtime Version: python:3.{minor}\n", log)

    def test_the_nearest_one_is_told(self):
        version, log = self.run_on(self.node(""), "python3.10")
        self.assertEqual(version, [3, self.own])
        self.assertIn(f"python:3.{self.own} (python3.10, which was asked for, is not on this machine)", log)

    def test_others_are_refused_where_they_are_to_be(self):
        api = self.node('[runtime]\nversions = "exact"\n')
        self.assertEqual(self.run_on(api, f"python3.{self.own}")[0], [3, self.own])
        with self.assertRaises(ClientError) as caught:
            self.run_on(api, "python3.10")
        error = caught.exception.response["Error"]
        self.assertEqual(error["Code"], "InvalidParameterValueException")
        self.assertTrue(error["Message"].startswith(f"This node has no python3.10: it has python3.{self.own}"), error)
        with self.assertRaises(ClientError):
            api.update_function_configuration(FunctionName=f"python3-{self.own}", Runtime="python3.10")

    def test_the_doctor_lists_them(self):
        checks = json.loads(subprocess.run([BINARY, "doctor", "-o", "json"], capture_output=True).stdout)
        checks = checks["checks"] if isinstance(checks, dict) else checks
        python = next(check for check in checks if check["name"] == "python")
        self.assertIn(f"3.{self.own}.", python["found"])


if __name__ == "__main__":
    unittest.main()
