"""Runtime hooks of SnapStart, around forks: `snapshot_restore_py`, as on AWS."""

import json
import unittest
import urllib.request
import uuid

from botocore.exceptions import ClientError

from harness import Node, eventually
from test_boto3 import ROLE, package

SOURCE = """
import os, time
from snapshot_restore_py import register_after_restore, register_before_snapshot

seen = []

@register_before_snapshot
def first():
    seen.append(["before", "first", os.getpid()])

register_before_snapshot(lambda word, **more: seen.append(["before", word, more]), "second", more=1)
register_after_restore(lambda word: seen.append(["after", word, os.getpid()]), "third")

@register_after_restore
def fourth():
    seen.append(["after", "fourth", os.getpid()])

def handler(event, context):
    return {"seen": seen, "pid": os.getpid(), "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]}
"""
FAILS = """
import time
import snapshot_restore_py

def fail():
    raise LookupError("nothing to restore")

def wait():
    time.sleep(60)

snapshot_restore_py.register_WHEN(WHAT)

def handler(event, context):
    return "restored"
"""


class Snapshots(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node()
        cls.addClassCleanup(cls.node.stop)
        cls.api = cls.node.client()

    def create(self, source, **options):
        name = f"snap-{uuid.uuid4().hex[:8]}"
        self.api.create_function(
            FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": package(source)},
            SnapStart={"ApplyOn": "PublishedVersions"}, Timeout=5, **options,
        )
        self.addCleanup(self.api.delete_function, FunctionName=name)
        return name, self.api.publish_version(FunctionName=name)["Version"]

    def invoke(self, name, qualifier):
        answer = self.api.invoke(FunctionName=name, Qualifier=qualifier)
        self.assertNotIn("FunctionError", answer)
        return json.loads(answer["Payload"].read())

    def test_a_version_is_restored_whatever_it_was_forked_from(self):
        name, version = self.create(SOURCE)
        told = self.invoke(name, version)
        kinds = [entry[:2] for entry in told["seen"]]
        self.assertEqual(kinds, [["before", "second"], ["before", "first"], ["after", "third"], ["after", "fourth"]])
        self.assertEqual(told["seen"][0][2], {"more": 1})
        self.assertEqual([entry[2] for entry in told["seen"][2:]], [told["pid"]] * 2)
        self.assertEqual(told["type"], "snap-start")

    def test_children_of_a_template_are_restored_once(self):
        name, _ = self.create(SOURCE, Environment={"Variables": {"KEY": "value"}})

        def forked():
            # With an instance for each request, all that come after the template was made are forked from it.
            told = self.invoke(name, "$LATEST")
            return told if told["seen"] else None

        self.isolate(name)
        told = eventually(forked, "a dedicated template serves")
        kinds = [entry[:2] for entry in told["seen"]]
        self.assertEqual(kinds, [["before", "second"], ["before", "first"], ["after", "third"], ["after", "fourth"]])
        self.assertNotEqual(told["seen"][1][2], told["pid"])
        self.assertEqual([entry[2] for entry in told["seen"][2:]], [told["pid"]] * 2)
        self.assertEqual(told["type"], "on-demand")

    def isolate(self, name):
        body = json.dumps({"Lichen": {"Isolation": "request"}}).encode()
        path = f"{self.node.endpoint}/2015-03-31/functions/{name}/configuration"
        with urllib.request.urlopen(urllib.request.Request(path, body, method="PUT")) as answer:
            self.assertEqual(answer.status, 200)

    def test_failures(self):
        name, version = self.create(FAILS.replace("WHEN", "after_restore").replace("WHAT", "fail"))
        for call in (self.api.invoke, self.api.invoke_with_response_stream):
            with self.assertRaises(ClientError) as caught:
                call(FunctionName=name, Qualifier=version)
            response = caught.exception.response
            self.assertEqual((response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]), ("SnapStartException", 400))
            self.assertIn("LookupError: nothing to restore", response["Message"])
        name, version = self.create(FAILS.replace("WHEN", "before_snapshot").replace("WHAT", "fail"))
        answer = self.api.invoke(FunctionName=name, Qualifier=version)
        error = json.loads(answer["Payload"].read())
        self.assertEqual((answer["FunctionError"], error["errorType"]), ("Unhandled", "Runtime.BeforeSnapshotError"))

    def test_a_restore_that_takes_too_long(self):
        config = self.node.folder / "hasty.toml"
        config.write_text("[dispatch]\ninit_timeout_s = 1\n")
        with Node("--config", config) as node:
            api, self.api = self.api, node.client()
            try:
                name, version = self.create(FAILS.replace("WHEN", "after_restore").replace("WHAT", "wait"))
                self.api.update_function_configuration(FunctionName=name, Timeout=1)
                version = self.api.publish_version(FunctionName=name)["Version"]
                with self.assertRaises(ClientError) as caught:
                    self.api.invoke(FunctionName=name, Qualifier=version)
                self.assertEqual(caught.exception.response["Error"]["Code"], "SnapStartTimeoutException")
            finally:
                self.doCleanups()
                self.api = api


if __name__ == "__main__":
    unittest.main()
