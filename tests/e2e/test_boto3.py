"""AWS's Python client, unmodified, with nothing but an endpoint URL: functions from creation to deletion."""

import base64
import io
import json
import os
import unittest
import urllib.request
import uuid
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = os.environ.get("LICHEN_ENDPOINT", "http://127.0.0.1:9000")
ROLE = "arn:aws:iam::000000000000:role/test"
APP = """
import json, os

def handler(event, context):
    print("event", json.dumps(event))
    if event and event.get("fail"):
        raise ValueError(event["fail"])
    return {
        "event": event,
        "level": os.environ.get("LEVEL"),
        "name": context.function_name,
        "version": context.function_version,
        "arn": context.invoked_function_arn,
        "memory": context.memory_limit_in_mb,
        "request": context.aws_request_id,
        "client": context.client_context.custom if context.client_context else None,
    }
"""


def client(region="us-east-1", key="test"):
    return boto3.client(
        "lambda",
        endpoint_url=ENDPOINT,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 0}, read_timeout=60),
    )


def package(source=APP, name="app.py"):
    bytes_ = io.BytesIO()
    with zipfile.ZipFile(bytes_, "w") as archive:
        archive.writestr(name, source)
    return bytes_.getvalue()


class Lambda(unittest.TestCase):
    """Each test has a function of its own."""

    def setUp(self):
        self.api = client()
        self.name = f"boto3-{uuid.uuid4().hex[:12]}"

    def create(self, **settings):
        defaults = {"Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": package()}}
        created = self.api.create_function(FunctionName=self.name, **{**defaults, **settings})
        self.addCleanup(self.delete)
        return created

    def delete(self):
        try:
            self.api.delete_function(FunctionName=self.name)
        except self.api.exceptions.ResourceNotFoundException:
            pass

    def invoke(self, event=None, **options):
        if event is not None:
            options["Payload"] = json.dumps(event)
        return self.api.invoke(FunctionName=self.name, **options)

    def refused(self, code, status, call, *arguments, **options):
        with self.assertRaises(ClientError) as caught:
            call(*arguments, **options)
        answer = caught.exception.response
        self.assertEqual(answer["Error"]["Code"], code)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], status)
        return answer

    def test_life(self):
        created = self.create(Environment={"Variables": {"LEVEL": "1"}}, MemorySize=256, Tags={"team": "blue"})
        self.assertEqual(created["State"], "Pending")
        self.api.get_waiter("function_active_v2").wait(FunctionName=self.name)
        self.api.get_waiter("function_active").wait(FunctionName=self.name)
        self.api.get_waiter("function_exists").wait(FunctionName=self.name)
        got = self.api.get_function(FunctionName=self.name)
        self.assertEqual(got["Tags"], {"team": "blue"})
        self.assertEqual(got["Configuration"]["CodeSha256"], created["CodeSha256"])
        with urllib.request.urlopen(got["Code"]["Location"]) as answer:
            self.assertEqual(answer.read(), package())
        reply = self.invoke({"a": ["ä", None]})
        value = json.load(reply["Payload"])
        self.assertEqual((reply["StatusCode"], reply["ExecutedVersion"]), (200, "$LATEST"))
        self.assertEqual(value["event"], {"a": ["ä", None]})
        self.assertEqual((value["level"], value["name"], value["memory"]), ("1", self.name, "256"))
        self.assertEqual((value["version"], value["arn"]), ("$LATEST", created["FunctionArn"]))
        self.assertEqual(value["request"], reply["ResponseMetadata"]["RequestId"])
        self.api.delete_function(FunctionName=self.name)
        self.refused("ResourceNotFoundException", 404, self.invoke, {})

    def test_updates_take_effect_at_once(self):
        self.create()
        self.invoke({})
        self.api.update_function_configuration(FunctionName=self.name, Environment={"Variables": {"LEVEL": "2"}})
        self.api.get_waiter("function_updated_v2").wait(FunctionName=self.name)
        self.assertEqual(json.load(self.invoke({})["Payload"])["level"], "2")
        source = "def handler(event, context):\n    return 'new'\n"
        self.api.update_function_code(FunctionName=self.name, ZipFile=package(source))
        self.api.get_waiter("function_updated").wait(FunctionName=self.name)
        self.assertEqual(json.load(self.invoke({})["Payload"]), "new")

    def test_errors_of_the_function(self):
        self.create()
        reply = self.invoke({"fail": "on purpose"}, LogType="Tail")
        error = json.load(reply["Payload"])
        self.assertEqual((reply["StatusCode"], reply["FunctionError"]), (200, "Unhandled"))
        self.assertEqual((error["errorType"], error["errorMessage"]), ("ValueError", "on purpose"))
        self.assertEqual(error["requestId"], reply["ResponseMetadata"]["RequestId"])
        self.assertTrue(any("app.py" in line for line in error["stackTrace"]))

    def test_the_end_of_the_log(self):
        self.create()
        reply = self.invoke({"a": 1}, LogType="Tail")
        log = base64.b64decode(reply["LogResult"]).decode()
        request = reply["ResponseMetadata"]["RequestId"]
        for line in (f"START RequestId: {request} Version: $LATEST", 'event {"a": 1}', f"END RequestId: {request}"):
            self.assertIn(line + "\n", log)
        self.assertRegex(log, rf"REPORT RequestId: {request}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\t")
        self.assertNotIn("LogResult", self.invoke({}))

    def test_kinds_of_invocation(self):
        self.create()
        self.assertEqual(self.invoke(InvocationType="DryRun")["StatusCode"], 204)
        self.assertIsNone(json.load(self.invoke()["Payload"])["event"] or None)
        context = base64.b64encode(json.dumps({"custom": {"k": "v"}}).encode()).decode()
        self.assertEqual(json.load(self.invoke({}, ClientContext=context)["Payload"])["client"], {"k": "v"})
        self.refused("InvalidRequestContentException", 400, self.api.invoke, FunctionName=self.name, Payload=b"{")

    def test_large_events_and_answers(self):
        self.create(Code={"ZipFile": package("def handler(event, context):\n    return event\n")}, MemorySize=512)
        text = "x" * (5 << 20)
        self.assertEqual(json.load(self.invoke(text)["Payload"]), text)
        self.refused("RequestEntityTooLargeException", 413, self.invoke, "x" * (7 << 20))

    def test_names(self):
        created = self.create()
        for name in (created["FunctionArn"], f"000000000000:function:{self.name}", f"{self.name}:$LATEST"):
            self.assertEqual(self.api.get_function_configuration(FunctionName=name)["FunctionName"], self.name)
            self.assertEqual(self.api.invoke(FunctionName=name)["StatusCode"], 200)
        self.refused("ResourceNotFoundException", 404, self.invoke, {}, Qualifier="7")
        other = created["FunctionArn"].replace("us-east-1", "eu-west-1")
        self.refused("ResourceNotFoundException", 404, self.api.get_function, FunctionName=other)

    def test_regions_and_accounts_are_apart(self):
        created = self.create()
        for other in (client("eu-west-1"), client(key="123456789012")):
            with self.assertRaises(other.exceptions.ResourceNotFoundException):
                other.get_function(FunctionName=self.name)
            names = [f["FunctionArn"] for page in other.get_paginator("list_functions").paginate() for f in page["Functions"]]
            self.assertNotIn(created["FunctionArn"], names)

    def test_list(self):
        created = self.create()
        pages = self.api.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1})
        arns = [function["FunctionArn"] for page in pages for function in page["Functions"]]
        self.assertIn(created["FunctionArn"], arns)
        self.assertEqual(len(arns), len(set(arns)))

    def test_concurrency(self):
        self.create()
        self.api.put_function_concurrency(FunctionName=self.name, ReservedConcurrentExecutions=0)
        self.assertEqual(self.api.get_function_concurrency(FunctionName=self.name)["ReservedConcurrentExecutions"], 0)
        answer = self.refused("TooManyRequestsException", 429, self.invoke, {})
        self.assertEqual(answer["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded")
        self.api.delete_function_concurrency(FunctionName=self.name)
        self.assertEqual(self.invoke({})["StatusCode"], 200)

    def test_refusals(self):
        self.create()
        self.refused("ResourceConflictException", 409, self.create)
        update = self.api.update_function_configuration
        self.refused("PreconditionFailedException", 412, update, FunctionName=self.name, RevisionId="stale", Timeout=5)
        self.refused("ValidationException", 400, update, FunctionName=self.name, Timeout=5000)
        self.refused("InvalidParameterValueException", 400, update, FunctionName=self.name, Runtime="cobol")
        code = self.api.update_function_code
        self.refused("InvalidParameterValueException", 400, code, FunctionName=self.name, ZipFile=b"no zip")
        slip = package("", "../../slip.py")
        self.refused("InvalidParameterValueException", 400, code, FunctionName=self.name, ZipFile=slip)


class Url(unittest.TestCase):
    """A function as a web server."""

    SOURCE = """
import base64

def handler(event, context):
    path = event["rawPath"]
    if path == "/plain":
        return "plain"
    if path == "/bytes":
        return {"statusCode": 200, "headers": {"content-type": "application/octet-stream"},
                "body": base64.b64encode(bytes(range(256))).decode(), "isBase64Encoded": True}
    if path == "/fail":
        raise ValueError("secret")
    return {"statusCode": 201, "headers": {"x-made-by": "lichen"}, "cookies": ["a=1", "b=2"], "body": __import__("json").dumps(event)}
"""

    @classmethod
    def setUpClass(cls):
        cls.api, cls.name = client(), f"url-{uuid.uuid4().hex[:12]}"
        cls.api.create_function(
            FunctionName=cls.name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": package(cls.SOURCE)}
        )
        cls.addClassCleanup(cls.api.delete_function, FunctionName=cls.name)

    def ask(self, path, **options):
        request = urllib.request.Request(f"{ENDPOINT}/f/{self.name}{path}", **options)
        try:
            return urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            return error

    def test_a_request_is_an_event(self):
        headers = {"Cookie": "c=1; d=2", "X-Custom": "v", "Content-Type": "application/json"}
        answer = self.ask("/a%20b/c?x=1&x=2&y=%2F", data=b'{"k": 1}', headers=headers, method="PUT")
        self.assertEqual((answer.status, answer.headers["x-made-by"]), (201, "lichen"))
        self.assertEqual(answer.headers.get_all("set-cookie"), ["a=1", "b=2"])
        event = json.load(answer)
        self.assertEqual((event["version"], event["rawPath"], event["rawQueryString"]), ("2.0", "/a%20b/c", "x=1&x=2&y=%2F"))
        self.assertEqual(event["queryStringParameters"], {"x": "1,2", "y": "/"})
        self.assertEqual((event["cookies"], event["headers"]["x-custom"]), (["c=1", "d=2"], "v"))
        self.assertEqual((event["body"], event["isBase64Encoded"]), ('{"k": 1}', False))
        http = event["requestContext"]["http"]
        self.assertEqual((http["method"], http["path"], http["sourceIp"]), ("PUT", "/a%20b/c", "127.0.0.1"))

    def test_answers(self):
        answer = self.ask("/plain")
        self.assertEqual((answer.status, answer.headers["content-type"], answer.read()), (200, "application/json", b"plain"))
        self.assertEqual(self.ask("/bytes").read(), bytes(range(256)))
        answer = self.ask("/fail")
        self.assertEqual((answer.status, answer.read()), (502, b"Internal Server Error"))
        binary = json.load(self.ask("/", data=b"\xff\x00", headers={"Content-Type": "image/png"}))
        self.assertEqual((binary["body"], binary["isBase64Encoded"]), ("/wA=", True))

    def test_nobody_is_there(self):
        self.name = "url-missing"
        self.assertEqual(self.ask("/").status, 404)


if __name__ == "__main__":
    unittest.main()
