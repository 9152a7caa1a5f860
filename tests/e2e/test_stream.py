"""Invocations whose answers are event streams, as AWS's Python client reads them."""

import base64
import json
import unittest
import uuid

from botocore.exceptions import ClientError

from test_boto3 import ROLE, client, package

SOURCE = """
def handler(event, context):
    print("said")
    if event.get("fail"):
        raise ValueError("no")
    return "x" * event["length"]
"""


class Stream(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.api, cls.name = client(), f"stream-{uuid.uuid4().hex[:12]}"
        cls.api.create_function(
            FunctionName=cls.name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": package(SOURCE)}
        )
        cls.addClassCleanup(cls.api.delete_function, FunctionName=cls.name)

    def invoke(self, event, **options):
        answer = self.api.invoke_with_response_stream(FunctionName=self.name, Payload=json.dumps(event), **options)
        self.assertEqual(answer["StatusCode"], 200)
        self.assertEqual(answer["ExecutedVersion"], "$LATEST")
        events = list(answer["EventStream"])
        chunks = [event["PayloadChunk"]["Payload"] for event in events[:-1]]
        return b"".join(chunks), events[-1]["InvokeComplete"]

    def test_answers(self):
        for length in (0, 5, 3 << 20):
            body, complete = self.invoke({"length": length})
            self.assertEqual((json.loads(body), complete), ("x" * length, {}))

    def test_the_end_of_the_log(self):
        _, complete = self.invoke({"length": 1}, LogType="Tail")
        self.assertIn("said", base64.b64decode(complete["LogResult"]).decode())

    def test_errors_of_the_function(self):
        body, complete = self.invoke({"fail": True})
        self.assertEqual((body, complete["ErrorCode"]), (b"", "Unhandled"))
        self.assertEqual(json.loads(complete["ErrorDetails"])["errorType"], "ValueError")

    def test_refusals(self):
        with self.assertRaises(ClientError) as caught:
            self.api.invoke_with_response_stream(FunctionName="nobody")
        self.assertEqual(caught.exception.response["Error"]["Code"], "ResourceNotFoundException")
        dry = self.api.invoke_with_response_stream(FunctionName=self.name, InvocationType="DryRun")
        self.assertEqual(dry["StatusCode"], 204)


if __name__ == "__main__":
    unittest.main()
