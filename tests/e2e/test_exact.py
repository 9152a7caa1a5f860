"""AWS's answers, member by member: one group of assertions for each statement that is known of Lambda's HTTP API.

What a client sees is compared as bytes and JSON, without a client's own view on it: over a plain connection.
"""

import base64
import hashlib
import http.client
import io
import json
import time
import unittest
import urllib.parse
import uuid
import zipfile

import boto3
from botocore.config import Config
from test_control import DATE, ENDPOINT, ROLE, UUID

HOST = urllib.parse.urlsplit(ENDPOINT).netloc
FUNCTIONS = "/2015-03-31/functions"
TELL = """
import json, os, time
def handler(event, context):
    if "print" in event:
        print(event["print"])
    if "raise" in event:
        raise ValueError(event["raise"])
    if "exit" in event:
        os._exit(event["exit"])
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "long" in event:
        return "x" * event["long"]
    names = [name for name in dir(context) if not name.startswith("_")]
    return {"event": event, "environment": dict(os.environ), "context": names, "memory": context.memory_limit_in_mb,
            "request": context.aws_request_id, "group": context.log_group_name, "stream": context.log_stream_name,
            "arn": context.invoked_function_arn, "client": context.client_context and context.client_context.custom}
"""


def zipped(source=TELL, name="app.py"):
    bytes_ = io.BytesIO()
    with zipfile.ZipFile(bytes_, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), source)
    return bytes_.getvalue()


class Reply:
    """What came over the wire."""

    def __init__(self, response):
        self.status, self.body = response.status, response.read()
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def refusal(self):
        """Status, code and body of an error."""
        return self.status, self.headers.get("x-amzn-errortype"), self.json


class Exact(unittest.TestCase):
    maxDiff = None
    region, key = "us-east-1", "test"

    def setUp(self):
        self.name = f"exact-{uuid.uuid4().hex[:12]}"
        self.arn = f"arn:aws:lambda:us-east-1:000000000000:function:{self.name}"

    def ask(self, method, path, body=None, headers=(), region=None, key=None, signed=True):
        connection = http.client.HTTPConnection(HOST, timeout=60)
        self.addCleanup(connection.close)
        credential = f"{key or self.key}/20260101/{region or self.region}/lambda/aws4_request"
        signature = {"Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"}
        content = json.dumps(body) if isinstance(body, (dict, list)) else body
        connection.request(method, path, content, {**(signature if signed else {}), **dict(headers)})
        return Reply(connection.getresponse())

    def create(self, **more):
        settings = {
            "FunctionName": self.name, "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler",
            "Code": {"ZipFile": base64.b64encode(zipped()).decode()}, **more,
        }
        reply = self.ask("POST", FUNCTIONS, {name: value for name, value in settings.items() if value is not None})
        self.assertEqual(reply.status, 201, reply.body)
        self.addCleanup(self.ask, "DELETE", f"{FUNCTIONS}/{self.name}")
        return reply

    def at(self, path="", version="2015-03-31"):
        return f"/{version}/functions/{self.name}{path}"

    def invoke(self, event=None, path="/invocations", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", self.at(path), json.dumps(event if event is not None else {}), named)


class Transport(Exact):
    def test_path_segments_arrive_percent_encoded_and_a_slash_at_the_end_means_nothing(self):
        self.create()
        encoded = urllib.parse.quote(self.arn, safe="")
        for path in (f"{FUNCTIONS}/{encoded}", self.at("/"), f"{FUNCTIONS}/{encoded}/"):
            self.assertEqual(self.ask("GET", path).json["Configuration"]["FunctionArn"], self.arn)
        self.assertEqual(self.ask("GET", f"/2017-03-31/tags/{encoded}").json, {"Tags": {}})
        self.assertEqual(self.ask("GET", f"{FUNCTIONS}/").status, 200)

    def test_all_ways_to_name_a_function(self):
        self.create()
        for name in (self.name, f"{self.name}:$LATEST", f"000000000000:function:{self.name}", self.arn, f"{self.arn}:$LATEST"):
            reply = self.ask("GET", f"{FUNCTIONS}/{urllib.parse.quote(name)}/configuration")
            self.assertEqual((reply.status, reply.json["FunctionName"]), (200, self.name), name)

    def test_any_signature_and_none_is_taken(self):
        self.create()
        self.assertEqual(self.ask("GET", self.at(), signed=False).status, 200)
        self.assertEqual(self.ask("GET", self.at(), key="anything").status, 200)

    def test_the_credential_says_region_and_account(self):
        self.create()
        far = self.ask("GET", self.at(), region="eu-west-1")
        arn = self.arn.replace("us-east-1", "eu-west-1")
        self.assertEqual(far.refusal, (404, "ResourceNotFoundException", {"Type": "User", "Message": f"Function not found: {arn}"}))
        other = self.ask("GET", self.at(), key="111111111111")
        arn = self.arn.replace("000000000000", "111111111111")
        self.assertEqual(other.json["Message"], f"Function not found: {arn}")
        self.assertEqual(self.ask("GET", f"{FUNCTIONS}?MaxItems=50", region="ap-south-1").json, {"Functions": []})

    def test_every_reply_has_an_id_and_says_what_it_is(self):
        created = self.create()
        self.assertRegex(created.headers["x-amzn-requestid"], UUID)
        self.assertEqual(created.headers["content-type"], "application/json")
        missing = self.ask("GET", f"{FUNCTIONS}/none")
        self.assertRegex(missing.headers["x-amzn-requestid"], UUID)
        gone = self.ask("DELETE", self.at())
        self.assertEqual((gone.status, gone.body), (204, b""))

    def test_dates(self):
        created = self.create().json
        self.assertRegex(created["LastModified"], DATE)
        config = self.ask("PUT", self.at("/event-invoke-config", "2019-09-25"), {"MaximumRetryAttempts": 1}).json
        self.assertIsInstance(config["LastModified"], float)
        self.assertAlmostEqual(config["LastModified"], time.time(), delta=60)
        url = self.ask("POST", self.at("/url", "2021-10-31"), {"AuthType": "NONE"}).json
        self.assertRegex(url["CreationTime"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")

    def test_errors(self):
        self.create()
        exists = self.ask("POST", FUNCTIONS, {
            "FunctionName": self.name, "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler",
            "Code": {"ZipFile": base64.b64encode(zipped()).decode()},
        })
        body = {"Type": "User", "message": f"Function already exist: {self.name}"}
        self.assertEqual(exists.refusal, (409, "ResourceConflictException", body))
        missing = {"Type": "User", "Message": f"Function not found: {self.arn}x:5"}
        self.assertEqual(self.ask("GET", f"{FUNCTIONS}/{self.name}x?Qualifier=5").refusal, (404, "ResourceNotFoundException", missing))
        stale = self.ask("PUT", self.at("/configuration"), {"RevisionId": str(uuid.uuid4())})
        self.assertEqual(stale.refusal[:2], (412, "PreconditionFailedException"))
        self.assertEqual(
            stale.json["message"],
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve "
            "the latest Revision Id",
        )
        wrong = self.ask("PUT", self.at("/code"), {"ZipFile": base64.b64encode(b"no zip").decode()})
        text = "Could not unzip uploaded file. Please check your file, then try to upload again."
        self.assertEqual(wrong.refusal, (400, "InvalidParameterValueException", {"Type": "User", "message": text}))
        config = "/provisioned-concurrency?Qualifier="
        self.ask("POST", self.at("/versions"), {})
        none = self.ask("GET", self.at(f"{config}1", "2019-09-30"))
        text = "No Provisioned Concurrency Config found for this function"
        self.assertEqual(
            none.refusal, (404, "ProvisionedConcurrencyConfigNotFoundException", {"Type": "User", "message": text})
        )

    def test_constraints_are_told_without_a_type(self):
        reply = self.ask("GET", f"{FUNCTIONS}/invalid%3Afunction%3Aname")
        self.assertEqual(reply.refusal[:2], (400, "ValidationException"))
        self.assertEqual(set(reply.json), {"message"})
        self.assertEqual(
            reply.json["message"],
            "1 validation error detected: Value 'invalid:function:name' at 'functionName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|"
            "(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_\\.]+)(:(\\$LATEST(\\.PUBLISHED)?|"
            "[a-zA-Z0-9-_]+))?",
        )
        for path, message in (
            ("?MaxItems=0", "1 validation error detected: Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1"),
            ("?FunctionVersion=invalid", "1 validation error detected: Value 'invalid' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]"),
        ):
            self.assertEqual(self.ask("GET", FUNCTIONS + path).refusal, (400, "ValidationException", {"message": message}))

    def test_names_regions_and_qualifiers_have_to_agree(self):
        self.create()
        disagree = "The derived qualifier from the function name does not match the specified qualifier."
        reply = self.ask("GET", f"{FUNCTIONS}/{self.name}%3A1?Qualifier=2")
        self.assertEqual(reply.refusal, (400, "InvalidParameterValueException", {"Type": "User", "message": disagree}))
        far = urllib.parse.quote(self.arn.replace("us-east-1", "ap-southeast-1"), safe="")
        text = "Functions from 'ap-southeast-1' are not reachable in this region ('us-east-1')"
        self.assertEqual(
            self.ask("GET", f"{FUNCTIONS}/{far}").refusal, (404, "ResourceNotFoundException", {"Type": "User", "Message": text})
        )
        self.assertEqual(self.ask("GET", f"{FUNCTIONS}/{'a' * 65}").refusal[:2], (404, "ResourceNotFoundException"))
        self.assertEqual(self.ask("GET", f"{FUNCTIONS}/{'a' * 257}").refusal[:2], (400, "ValidationException"))
        made = {"FunctionName": "a" * 65, "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": ""}}
        long = self.ask("POST", FUNCTIONS, made)
        self.assertEqual(long.refusal[:2], (400, "InvalidParameterValueException"))
        self.assertTrue(long.json["message"].endswith("Member must have length less than or equal to 64"))

    def test_what_is_not_there(self):
        """What AWS was recorded to say of functions and versions that are missing."""
        missing = f"Function not found: {self.arn}"

        def absent(method, path, text, body=None):
            reply = self.ask(method, path, body)
            self.assertEqual(reply.refusal, (404, "ResourceNotFoundException", {"Type": "User", "Message": text}))

        absent("GET", self.at(), missing)
        absent("DELETE", self.at("?Qualifier=7"), missing)
        absent("DELETE", self.at("?Qualifier=live"), missing)
        absent("POST", self.at("/invocations"), f"{missing}:$LATEST", {})
        absent("PUT", self.at("/concurrency", "2017-10-31"), f"{missing}:$LATEST", {"ReservedConcurrentExecutions": 1})
        provisioned = self.at("/provisioned-concurrency?Qualifier=live", "2019-09-30")
        absent("GET", provisioned, f"Cannot find alias arn: {self.arn}:live")
        absent("GET", self.at("/policy"), "The resource you requested does not exist.")
        latest = self.ask("DELETE", self.at("?Qualifier=%24LATEST"))
        self.assertEqual(latest.json["message"], "$LATEST version cannot be deleted without deleting the function.")
        self.create()
        self.assertEqual(self.ask("DELETE", self.at("?Qualifier=7")).status, 204)

    def test_too_many_requests(self):
        self.create()
        self.ask("PUT", self.at("/concurrency", "2017-10-31"), {"ReservedConcurrentExecutions": 0})
        body = {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."}
        self.assertEqual(self.invoke().refusal, (429, "TooManyRequestsException", body))

    def test_lists_come_in_pages(self):
        self.create()
        for number in range(3):
            self.ask("POST", self.at("/aliases"), {"Name": f"a{number}", "FunctionVersion": "$LATEST"})
        first = self.ask("GET", self.at("/aliases?MaxItems=2")).json
        self.assertEqual([alias["Name"] for alias in first["Aliases"]], ["a0", "a1"])
        marker = urllib.parse.quote(first["NextMarker"])
        rest = self.ask("GET", self.at(f"/aliases?MaxItems=2&Marker={marker}")).json
        self.assertEqual(([alias["Name"] for alias in rest["Aliases"]], set(rest)), (["a2"], {"Aliases"}))


class Configuration(Exact):
    def expected(self, **more):
        code = zipped()
        return {
            "FunctionName": self.name, "FunctionArn": self.arn, "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler",
            "CodeSize": len(code), "CodeSha256": base64.b64encode(hashlib.sha256(code).digest()).decode(), "Description": "",
            "Timeout": 3, "MemorySize": 128, "Version": "$LATEST", "TracingConfig": {"Mode": "PassThrough"},
            "PackageType": "Zip", "Architectures": ["x86_64"], "EphemeralStorage": {"Size": 512},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{self.name}"}, **more,
        }

    def taken(self, configuration):
        """Takes out what is new each time."""
        self.assertRegex(configuration.pop("LastModified"), DATE)
        self.assertRegex(configuration.pop("RevisionId"), UUID)
        return configuration

    def test_what_is_created(self):
        created = self.create().json
        arn = created["RuntimeVersionConfig"]["RuntimeVersionArn"]
        self.assertRegex(arn, r"^arn:aws:lambda:us-east-1::runtime:[0-9a-f]{64}$")
        runtime = {"RuntimeVersionConfig": {"RuntimeVersionArn": arn}}
        pending = {"State": "Pending", "StateReason": "The function is being created.", "StateReasonCode": "Creating"}
        self.assertEqual(self.taken(created), self.expected(**pending, **runtime))
        settled = {"State": "Active", "LastUpdateStatus": "Successful"}
        got = self.ask("GET", self.at("/configuration")).json
        self.assertEqual(self.taken(got), self.expected(**settled, **runtime))
        function = self.ask("GET", self.at()).json
        self.assertEqual(self.taken(function["Configuration"]), self.expected(**settled, **runtime))
        self.assertEqual(set(function), {"Configuration", "Code"})
        self.assertEqual(set(function["Code"]), {"RepositoryType", "Location"})
        self.assertEqual(function["Code"]["RepositoryType"], "S3")
        listed = [one for one in self.ask("GET", FUNCTIONS).json["Functions"] if one["FunctionName"] == self.name]
        if listed:
            self.assertEqual(self.taken(listed[0]), self.expected())

    def test_what_was_said_is_answered_and_what_was_not_is_left_out(self):
        said = {
            "Environment": {"Variables": {"LEVEL": "1"}}, "Description": "d", "Timeout": 9, "MemorySize": 512,
            "EphemeralStorage": {"Size": 1024}, "TracingConfig": {"Mode": "Active"}, "Architectures": ["arm64"],
            "DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"}, "Novelty": {"Unknown": [1]},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/own"},
        }
        created = self.create(**said, Tags={"a": "1"}).json
        self.assertEqual({name: created[name] for name in said}, said)
        for absent in ("Tags", "VpcConfig", "Layers", "KMSKeyArn", "Code", "Publish"):
            self.assertNotIn(absent, created)
        function = self.ask("GET", self.at()).json
        self.assertEqual((function["Tags"], function["Configuration"]["Novelty"]), ({"a": "1"}, {"Unknown": [1]}))
        changed = self.ask("PUT", self.at("/configuration"), {"Environment": {"Variables": {}}, "DeadLetterConfig": {}}).json
        self.assertEqual(changed["Environment"], {"Variables": {}})
        self.assertNotIn("DeadLetterConfig", changed)
        network = self.ask("PUT", self.at("/configuration"), {"VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []}}).json
        empty = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": "", "Ipv6AllowedForDualStack": False}
        self.assertEqual(network["VpcConfig"], empty)
        self.ask("PUT", self.at("/concurrency", "2017-10-31"), {"ReservedConcurrentExecutions": 1})
        self.assertEqual(self.ask("GET", self.at()).json["Concurrency"], {"ReservedConcurrentExecutions": 1})

    def test_an_update_is_in_progress_when_it_is_answered_and_done_when_asked_for(self):
        first = self.create().json["RevisionId"]
        for path, change in (("/configuration", {"Timeout": 4}), ("/code", {"ZipFile": base64.b64encode(zipped("x=1\n")).decode()})):
            changed = self.ask("PUT", self.at(path), change).json
            self.assertEqual(
                {name: changed[name] for name in changed if name.startswith(("State", "LastUpdate"))},
                {
                    "State": "Active", "LastUpdateStatus": "InProgress",
                    "LastUpdateStatusReason": "The function is being created.", "LastUpdateStatusReasonCode": "Creating",
                },
            )
            self.assertNotEqual(changed["RevisionId"], first)
            got = self.ask("GET", self.at("/configuration")).json
            self.assertEqual((got["State"], got["LastUpdateStatus"]), ("Active", "Successful"))
            self.assertNotIn("LastUpdateStatusReason", got)

    def test_clients_waiters_are_served(self):
        self.create()
        settings = Config(retries={"max_attempts": 0})
        api = boto3.client(
            "lambda", endpoint_url=ENDPOINT, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="x",
            config=settings,
        )
        for waiter in api.waiter_names:
            if waiter.startswith("function"):
                began = time.monotonic()
                api.get_waiter(waiter).wait(FunctionName=self.name)
                self.assertLess(time.monotonic() - began, 1, waiter)
        version = self.ask("POST", self.at("/versions"), {}).json["Version"]
        api.get_waiter("published_version_active").wait(FunctionName=self.name, Qualifier=version)


class Statuses(Exact):
    """Status codes of the operations that every tool needs, in the order of a life."""

    def test_the_life_of_everything(self):
        self.create(Publish=True)
        q = "?Qualifier=live"
        steps = [
            ("POST", self.at("/versions"), {}, 201), ("GET", self.at("/versions"), None, 200),
            ("POST", self.at("/aliases"), {"Name": "live", "FunctionVersion": "1"}, 201),
            ("GET", self.at("/aliases/live"), None, 200), ("PUT", self.at("/aliases/live"), {"Description": "x"}, 200),
            ("GET", self.at("/aliases"), None, 200),
            ("PUT", self.at("/concurrency", "2017-10-31"), {"ReservedConcurrentExecutions": 2}, 200),
            ("GET", self.at("/concurrency", "2019-09-30"), None, 200),
            ("PUT", self.at("/provisioned-concurrency" + q, "2019-09-30"), {"ProvisionedConcurrentExecutions": 1}, 202),
            ("GET", self.at("/provisioned-concurrency" + q, "2019-09-30"), None, 200),
            ("GET", self.at("/provisioned-concurrency?List=ALL", "2019-09-30"), None, 200),
            ("DELETE", self.at("/provisioned-concurrency" + q, "2019-09-30"), None, 204),
            ("DELETE", self.at("/concurrency", "2017-10-31"), None, 204),
            ("POST", self.at("/url", "2021-10-31"), {"AuthType": "NONE"}, 201), ("GET", self.at("/url", "2021-10-31"), None, 200),
            ("PUT", self.at("/url", "2021-10-31"), {"AuthType": "AWS_IAM"}, 200), ("GET", self.at("/urls", "2021-10-31"), None, 200),
            ("DELETE", self.at("/url", "2021-10-31"), None, 204),
            ("POST", self.at("/policy"), {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"}, 201),
            ("GET", self.at("/policy"), None, 200), ("DELETE", self.at("/policy/s"), None, 204),
            ("POST", f"/2017-03-31/tags/{urllib.parse.quote(self.arn, safe='')}", {"Tags": {"a": "1"}}, 204),
            ("DELETE", f"/2017-03-31/tags/{urllib.parse.quote(self.arn, safe='')}?tagKeys=a", None, 204),
            ("PUT", self.at("/event-invoke-config", "2019-09-25"), {"MaximumRetryAttempts": 0}, 200),
            ("POST", self.at("/event-invoke-config", "2019-09-25"), {"MaximumEventAgeInSeconds": 60}, 200),
            ("GET", self.at("/event-invoke-config", "2019-09-25"), None, 200),
            ("GET", self.at("/event-invoke-config/list", "2019-09-25"), None, 200),
            ("DELETE", self.at("/event-invoke-config", "2019-09-25"), None, 204),
            ("GET", self.at("/code-signing-config", "2020-06-30"), None, 200),
            ("GET", "/2016-08-19/account-settings", None, 200),
            ("PUT", self.at("/recursion-config", "2024-08-31"), {"RecursiveLoop": "Allow"}, 200),
            ("GET", self.at("/runtime-management-config", "2021-07-20"), None, 200),
            ("POST", self.at("/invoke-async", "2014-11-13"), {}, 202),
            ("DELETE", self.at("/aliases/live"), None, 204), ("DELETE", self.at("?Qualifier=1"), None, 204),
            ("DELETE", self.at(), None, 204), ("DELETE", self.at(), None, 404),
        ]
        for method, path, body, status in steps:
            reply = self.ask(method, path, body)
            self.assertEqual(reply.status, status, f"{method} {path}: {reply.body}")
            self.assertEqual(reply.body == b"", status == 204, f"{method} {path}")

    def test_versions_are_listed_from_latest_on(self):
        self.create(Publish=True)
        self.ask("PUT", self.at("/configuration"), {"Timeout": 5})
        self.ask("POST", self.at("/versions"), {})
        versions = self.ask("GET", self.at("/versions")).json["Versions"]
        self.assertEqual([version["Version"] for version in versions], ["$LATEST", "1", "2"])
        self.assertEqual(versions[1]["FunctionArn"], f"{self.arn}:1")

    def test_provisioned_concurrency_begins_in_progress(self):
        self.create(Publish=True)
        path = self.at("/provisioned-concurrency?Qualifier=1", "2019-09-30")
        began = self.ask("PUT", path, {"ProvisionedConcurrentExecutions": 1}).json
        self.assertEqual((began["Status"], began["AllocatedProvisionedConcurrentExecutions"]), ("IN_PROGRESS", 0))
        self.assertEqual(self.ask("GET", path).json["Status"], "READY")

    def test_what_is_provisioned_is_nobody_elses(self):
        self.create(Publish=True)
        path = lambda qualifier: self.at(f"/provisioned-concurrency?Qualifier={qualifier}", "2019-09-30")
        free = lambda: self.ask("GET", "/2016-08-19/account-settings").json["AccountLimit"]["UnreservedConcurrentExecutions"]
        before = free()
        self.assertEqual(self.ask("PUT", path(1), {"ProvisionedConcurrentExecutions": 3}).status, 202)
        self.assertEqual(free(), before - 3)
        other = f"{FUNCTIONS}/{self.name}-b"
        self.create(FunctionName=f"{self.name}-b")
        self.addCleanup(self.ask, "DELETE", other)
        reserved = f"{other.replace('2015-03-31', '2017-10-31')}/concurrency"
        most = before - 3 - 100
        reply = self.ask("PUT", reserved, {"ReservedConcurrentExecutions": most + 1})
        self.assertEqual(reply.refusal[:2], (400, "InvalidParameterValueException"))
        self.assertEqual(self.ask("PUT", reserved, {"ReservedConcurrentExecutions": most}).status, 200)
        self.ask("DELETE", reserved)
        # It is within what the function itself reserves, and all its versions share that.
        self.assertEqual(self.ask("PUT", self.at("/concurrency", "2017-10-31"), {"ReservedConcurrentExecutions": 4}).status, 200)
        self.assertEqual(free(), before - 4)
        self.ask("PUT", self.at("/configuration"), {"Timeout": 5})
        self.ask("POST", self.at("/versions"), {})
        text = "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
        reply = self.ask("PUT", path(2), {"ProvisionedConcurrentExecutions": 2})
        self.assertEqual(reply.refusal, (400, "InvalidParameterValueException", {"Type": "User", "message": text}))
        self.assertEqual(self.ask("PUT", path(2), {"ProvisionedConcurrentExecutions": 1}).status, 202)

    def test_concurrency_is_shared(self):
        self.create(Publish=True)
        provisioned, reserved = self.at("/provisioned-concurrency?Qualifier=1", "2019-09-30"), self.at("/concurrency", "2017-10-31")
        limit = self.ask("GET", "/2016-08-19/account-settings").json["AccountLimit"]
        free = limit["UnreservedConcurrentExecutions"]

        def refused(path, body, message, **told):
            reply = self.ask("PUT", path, body)
            self.assertEqual(reply.refusal, (400, "InvalidParameterValueException", {**told, "message": message}))

        # Of what the account has not, AWS does not say whose fault it is.
        refused(
            provisioned, {"ProvisionedConcurrentExecutions": free + 1},
            f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{free}].",
        )
        refused(
            provisioned, {"ProvisionedConcurrentExecutions": free - 99},
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum "
            "value of [100].",
        )
        refused(
            reserved, {"ReservedConcurrentExecutions": free - 99},
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
            "minimum value of [100].",
        )
        self.assertEqual(self.ask("PUT", provisioned, {"ProvisionedConcurrentExecutions": 2}).status, 202)
        refused(
            reserved, {"ReservedConcurrentExecutions": 1},
            " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2].",
            Type="User",
        )
        self.assertEqual(self.ask("PUT", reserved, {"ReservedConcurrentExecutions": 2}).status, 200)
        refused(
            provisioned, {"ProvisionedConcurrentExecutions": 3},
            "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
            Type="User",
        )
        refused(
            self.at("/code"), {"ImageUri": "a/b:c"},
            "Please don't provide ImageUri when updating a function with packageType Zip.",
            Type="User",
        )

    def test_policies_are_texts(self):
        self.create()
        statement = {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
        added = self.ask("POST", self.at("/policy"), statement).json
        self.assertEqual(set(added), {"Statement"})
        self.assertEqual(json.loads(added["Statement"])["Resource"], self.arn)
        got = self.ask("GET", self.at("/policy")).json
        self.assertEqual(set(got), {"Policy", "RevisionId"})
        self.assertEqual(list(json.loads(got["Policy"])), ["Version", "Id", "Statement"])

    def test_policies_have_a_limit(self):
        self.create()
        arn = "arn:aws:s3:::" + "b" * 1000
        for number in range(30):
            statement = {
                "StatementId": f"s{number}", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com", "SourceArn": arn,
            }
            reply = self.ask("POST", self.at("/policy"), statement)
            if reply.status != 201:
                break
        self.assertEqual(reply.refusal[:2], (400, "PolicyLengthExceededException"))
        self.assertRegex(reply.json["message"], r"^The final policy size \(2\d{4}\) is bigger than the limit \(20480\)\.$")

    def test_signing_as_terraform_asks(self):
        self.create()
        path = self.at("/code-signing-config", "2020-06-30")
        self.assertEqual(self.ask("GET", path).json, {})
        publishers = {"SigningProfileVersionArns": ["arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/v"]}
        made = self.ask("POST", "/2020-04-22/code-signing-configs", {"AllowedPublishers": publishers, "Description": "d"})
        config = made.json["CodeSigningConfig"]
        self.assertEqual(made.status, 201)
        self.assertRegex(config["CodeSigningConfigId"], "^csc-[a-z0-9]{17}$")
        arn = f"arn:aws:lambda:us-east-1:000000000000:code-signing-config:{config['CodeSigningConfigId']}"
        expected = {
            "CodeSigningConfigId": config["CodeSigningConfigId"], "CodeSigningConfigArn": arn, "Description": "d",
            "AllowedPublishers": publishers, "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"},
            "LastModified": config["LastModified"],
        }
        self.assertEqual(config, expected)
        one = f"/2020-04-22/code-signing-configs/{urllib.parse.quote(arn, safe='')}"
        self.assertEqual(self.ask("GET", one).json, {"CodeSigningConfig": expected})
        has = {"CodeSigningConfigArn": arn, "FunctionName": self.name}
        self.assertEqual(self.ask("PUT", path, {"CodeSigningConfigArn": arn}).json, has)
        self.assertEqual(self.ask("GET", path).json, has)
        self.assertEqual(self.ask("GET", f"{one}/functions").json, {"FunctionArns": [self.arn]})
        self.assertEqual(self.ask("DELETE", one).status, 409)
        self.assertEqual(self.ask("DELETE", path).status, 204)
        self.assertEqual(self.ask("DELETE", one).status, 204)
        missing = self.ask("PUT", path, {"CodeSigningConfigArn": arn})
        text = f"The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
        self.assertEqual(missing.refusal, (404, "CodeSigningConfigNotFoundException", {"Type": "User", "Message": text}))

    def test_capacity_providers(self):
        name = f"provider-{self.name}"
        arn = f"arn:aws:lambda:us-east-1:000000000000:capacity-provider:{name}"
        missing = self.ask("GET", f"/2025-11-30/capacity-providers/{name}")
        self.assertEqual(
            missing.refusal, (404, "ResourceNotFoundException", {"Type": "User", "Message": f"Capacity provider not found: {arn}"})
        )
        said = {
            "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
            "PermissionsConfig": {"CapacityProviderOperatorRoleArn": ROLE},
        }
        made = self.ask("POST", "/2025-11-30/capacity-providers", {"CapacityProviderName": name, "Tags": {"a": "1"}, **said})
        self.assertEqual((made.status, made.json["CapacityProvider"]["State"]), (202, "Pending"))
        got = self.ask("GET", f"/2025-11-30/capacity-providers/{urllib.parse.quote(arn, safe='')}").json["CapacityProvider"]
        self.assertEqual((got["State"], got["CapacityProviderArn"]), ("Active", arn))
        self.assertEqual({member: got[member] for member in said}, said)
        self.assertNotIn("Tags", got)
        self.assertEqual(self.ask("GET", f"/2017-03-31/tags/{urllib.parse.quote(arn, safe='')}").json, {"Tags": {"a": "1"}})
        config = {"LambdaManagedInstancesCapacityProviderConfig": {"CapacityProviderArn": arn}}
        created = self.create(CapacityProviderConfig=config, Timeout=5400, MemorySize=32768).json
        self.assertEqual((created["CapacityProviderConfig"], created["Timeout"]), (config, 5400))
        users = self.ask("GET", f"/2025-11-30/capacity-providers/{name}/function-versions").json
        self.assertEqual(users["FunctionVersions"], [{"FunctionArn": f"{self.arn}:$LATEST", "State": "Active"}])
        self.assertEqual(self.ask("DELETE", f"/2025-11-30/capacity-providers/{name}").status, 409)
        self.ask("DELETE", self.at())
        gone = self.ask("DELETE", f"/2025-11-30/capacity-providers/{name}")
        self.assertEqual((gone.status, gone.json["CapacityProvider"]["State"]), (202, "Deleting"))


if __name__ == "__main__":
    unittest.main()
