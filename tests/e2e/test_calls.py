"""What comes with an invocation: event and headers of function URLs, CORS, trace, client context, tenant, limits."""

import base64
import http.client
import json
import re
import unittest

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from harness import Node
from test_boto3 import ROLE, package

SOURCE = """
import os, time

def tell(event, context):
    return {"event": event, "trace": os.environ.get("_X_AMZN_TRACE_ID"), "tenant": context.tenant_id,
            "client": context.client_context and [context.client_context.custom, context.client_context.env,
                                                  context.client_context.client and context.client_context.client.app_title],
            "identity": [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
            "pid": id(tell), "calls": count()}

calls = 0

def count():
    global calls
    calls += 1
    return calls

def page(event, context):
    if event["rawPath"] == "/own":
        return {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "https://own.example"}, "body": "own"}
    if event["rawPath"] == "/fail":
        raise ValueError("no")
    return event

def wait(event, context):
    time.sleep(event["s"])

def trace(event, context):
    import ctypes
    find = ctypes.CDLL(None).getenv
    find.restype = ctypes.c_char_p
    told = [os.environ["_X_AMZN_TRACE_ID"], find(b"_X_AMZN_TRACE_ID").decode(),
            os.popen("echo $_X_AMZN_TRACE_ID").read().strip()]
    os.environ["_X_AMZN_TRACE_ID"] = "my own"
    return told

def large(event, context):
    return "x" * event["length"]
"""
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
IN_NODE = """
const { execFileSync } = require('node:child_process');
exports.trace = async () => {
  const told = execFileSync('/bin/sh', ['-c', 'echo $_X_AMZN_TRACE_ID']).toString().trim();
  const there = process.env._X_AMZN_TRACE_ID;
  process.env._X_AMZN_TRACE_ID = 'my own';
  return [there, there, told];
};
"""
LIMITS = """
[dispatch]
payload_max = 7000000
response_max = 8000000

[queue]
payload_max = 2000000
"""


class Calls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node()
        cls.addClassCleanup(cls.node.stop)
        cls.api = cls.node.client()
        for handler in ("tell", "page", "wait", "large"):
            cls.create(handler, handler)

    @classmethod
    def create(cls, name, handler, api=None, **options):
        (api or cls.api).create_function(
            FunctionName=name,
            Runtime="python3.11",
            Role=ROLE,
            Handler=f"app.{handler}",
            Code={"ZipFile": package(SOURCE)},
            Timeout=20,
            **options,
        )

    def ask(self, method, path, headers=None, body=None, node=None):
        """A request as it is; answers status, headers and body."""
        connection = http.client.HTTPConnection((node or self.node).endpoint.removeprefix("http://"), timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def invoke(self, name, event=None, headers=None):
        path = f"/2015-03-31/functions/{name}/invocations"
        status, headers, body = self.ask("POST", path, headers, json.dumps(event or {}))
        return status, headers, json.loads(body or b"null")

    def url(self, name="page", auth="NONE", **options):
        created = self.api.create_function_url_config(FunctionName=name, AuthType=auth, **options)
        self.addCleanup(self.api.delete_function_url_config, FunctionName=name)
        identifier = re.match(r"http://(\w+)\.", created["FunctionUrl"]).group(1)
        return identifier, f"/_aws/lambda-url/{identifier}"

    # Function URLs.

    def test_an_event_is_of_payload_format_2_0(self):
        identifier, url = self.url()
        headers = {
            "X-Twice": "a", "Cookie": "c=1; d=2", "User-Agent": "tests", "Content-Type": "text/plain",
            "X-Forwarded-For": "10.1.2.3", "X-Amzn-Trace-Id": TRACE,
        }
        status, told, body = self.ask("PATCH", f"{url}/a%20b//c?x=1&x=2&y=%2F&z", headers, "text")
        event = json.loads(body)
        self.assertEqual((status, told["Content-Type"], told["X-Amzn-Trace-Id"]), (200, "application/json", TRACE))
        members = {
            "version", "routeKey", "rawPath", "rawQueryString", "cookies", "headers", "queryStringParameters",
            "requestContext", "body", "isBase64Encoded",
        }
        self.assertEqual(set(event), members)
        self.assertEqual((event["version"], event["routeKey"]), ("2.0", "$default"))
        self.assertEqual((event["rawPath"], event["rawQueryString"]), ("/a%20b//c", "x=1&x=2&y=%2F&z"))
        self.assertEqual(event["queryStringParameters"], {"x": "1,2", "y": "/", "z": ""})
        self.assertEqual(event["cookies"], ["c=1", "d=2"])
        self.assertEqual((event["body"], event["isBase64Encoded"]), ("text", False))
        self.assertEqual(event["headers"]["x-twice"], "a")
        self.assertEqual(event["headers"]["x-forwarded-for"], "10.1.2.3,127.0.0.1")
        self.assertEqual(event["headers"]["x-amzn-trace-id"], TRACE)
        self.assertEqual(event["headers"]["x-forwarded-proto"], "http")
        self.assertNotIn("cookie", event["headers"])
        context = event["requestContext"]
        self.assertEqual(
            set(context),
            {"accountId", "apiId", "domainName", "domainPrefix", "http", "requestId", "routeKey", "stage", "time", "timeEpoch"},
        )
        self.assertEqual((context["accountId"], context["apiId"]), ("anonymous", identifier))
        self.assertEqual((context["stage"], context["routeKey"]), ("$default", "$default"))
        self.assertEqual(context["requestId"], told["x-amzn-RequestId"])
        self.assertRegex(context["time"], r"^\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000$")
        self.assertEqual(
            context["http"],
            {"method": "PATCH", "path": "/a%20b//c", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "tests"},
        )

    def test_an_event_has_no_more_than_the_request(self):
        _, url = self.url()
        event = json.loads(self.ask("GET", f"{url}/")[2])
        for absent in ("cookies", "queryStringParameters", "body"):
            self.assertNotIn(absent, event)
        self.assertEqual((event["rawPath"], event["rawQueryString"], event["isBase64Encoded"]), ("/", "", False))
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        event = json.loads(self.ask("POST", f"{url}/", form, "a=1")[2])
        self.assertEqual((base64.b64decode(event["body"]), event["isBase64Encoded"]), (b"a=1", True))

    def test_who_has_signed(self):
        _, url = self.url(auth="AWS_IAM")
        request = AWSRequest("GET", self.node.endpoint + url + "/", headers={})
        SigV4Auth(Credentials("123456789012", "secret"), "lambda", "us-east-1").add_auth(request)
        status, _, body = self.ask("GET", f"{url}/", dict(request.headers))
        self.assertEqual(status, 200, body)
        context = json.loads(body)["requestContext"]
        self.assertEqual(context["accountId"], "123456789012")
        caller = context["authorizer"]["iam"]
        self.assertEqual((caller["accessKey"], caller["accountId"]), ("123456789012", "123456789012"))
        self.assertEqual(
            set(caller),
            {"accessKey", "accountId", "callerId", "cognitoIdentity", "principalOrgId", "userArn", "userId"},
        )
        status, headers, body = self.ask("GET", f"{url}/")
        self.assertEqual((status, headers["x-amzn-ErrorType"]), (403, "AccessDeniedException"))
        self.assertTrue(json.loads(body)["Message"].startswith("Forbidden"))

    def test_cors(self):
        cors = {
            "AllowOrigins": ["https://a.example"], "AllowMethods": ["GET", "POST"], "AllowHeaders": ["x-a"],
            "ExposeHeaders": ["x-b"], "MaxAge": 60, "AllowCredentials": True,
        }
        _, url = self.url(auth="AWS_IAM", Cors=cors)
        asks = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a"}
        status, headers, body = self.ask("OPTIONS", f"{url}/", asks)
        self.assertEqual((status, body), (200, b""))
        said = {name.lower(): value for name, value in headers.items() if name.lower().startswith("access-control-")}
        self.assertEqual(
            said,
            {
                "access-control-allow-origin": "https://a.example",
                "access-control-allow-methods": "GET,POST",
                "access-control-allow-headers": "x-a",
                "access-control-allow-credentials": "true",
                "access-control-max-age": "60",
            },
        )
        _, headers, _ = self.ask("OPTIONS", f"{url}/", {**asks, "Origin": "https://b.example"})
        self.assertIsNone(headers["Access-Control-Allow-Origin"])
        # A page is to see why it is refused.
        status, headers, _ = self.ask("GET", f"{url}/", {"Origin": "https://a.example"})
        self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (403, "https://a.example"))
        self.assertEqual((headers["Access-Control-Expose-Headers"], headers["Vary"]), ("x-b", "Origin"))

    def test_cors_beside_the_functions_own_headers(self):
        _, url = self.url(Cors={"AllowOrigins": ["*"]})
        origin = {"Origin": "https://a.example"}
        _, headers, _ = self.ask("GET", f"{url}/own", origin)
        self.assertEqual(headers.get_all("Access-Control-Allow-Origin"), ["https://own.example", "*"])
        status, headers, _ = self.ask("GET", f"{url}/fail", origin)
        self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (502, "*"))
        self.assertIsNone(self.ask("GET", f"{url}/")[1]["Access-Control-Allow-Origin"])
        # Without CORS in its configuration a URL passes everything on.
        self.api.update_function_url_config(FunctionName="page", Cors={})
        _, _, body = self.ask("OPTIONS", f"{url}/", {**origin, "Access-Control-Request-Method": "GET"})
        self.assertEqual(json.loads(body)["requestContext"]["http"]["method"], "OPTIONS")

    # What accompanies an event.

    def test_the_trace(self):
        _, headers, told = self.invoke("tell", headers={"X-Amzn-Trace-Id": TRACE})
        self.assertEqual((told["trace"], headers["X-Amzn-Trace-Id"]), (TRACE, TRACE))
        _, headers, told = self.invoke("tell")
        self.assertRegex(told["trace"], r"^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01]$")
        self.assertEqual(headers["X-Amzn-Trace-Id"], told["trace"])

    def test_each_trace_is_in_the_environment_of_its_invocation(self):
        """Whatever the function has made of the last one; the one process serves all."""
        self.create("trace", "trace")
        code = {"ZipFile": package(IN_NODE, "app.js")}
        self.api.create_function(FunctionName="trace-node", Runtime="nodejs20.x", Role=ROLE, Handler="app.trace", Code=code)
        for name in ("trace", "trace-node"):
            for trace in (TRACE, f"{TRACE};Lineage={'a' * 20}", TRACE, f"{TRACE};More={'b' * 700}", TRACE[:35]):
                _, _, told = self.invoke(name, headers={"X-Amzn-Trace-Id": trace})
                self.assertEqual(told, [trace] * 3, name)

    def test_the_client_context(self):
        context = {"custom": {"a": 1}, "env": {"locale": "de"}, "client": {"app_title": "App"}}
        encoded = base64.b64encode(json.dumps(context).encode()).decode()
        _, _, told = self.invoke("tell", headers={"X-Amz-Client-Context": encoded})
        self.assertEqual(told["client"], [{"a": 1}, {"locale": "de"}, "App"])
        self.assertEqual((self.invoke("tell")[2]["client"], told["identity"]), (None, [None, None]))
        for nonsense in ("%%%", base64.b64encode(b"[1]").decode(), base64.b64encode(b"\xff").decode()):
            status, headers, _ = self.invoke("tell", headers={"X-Amz-Client-Context": nonsense})
            self.assertEqual((status, headers["x-amzn-ErrorType"]), (400, "InvalidRequestContentException"))

    def test_tenants(self):
        source = package(SOURCE)
        body = {
            "FunctionName": "tenants", "Runtime": "python3.11", "Role": ROLE, "Handler": "app.tell",
            "Code": {"ZipFile": base64.b64encode(source).decode()}, "TenancyConfig": {"TenantIsolationMode": "PER_TENANT"},
        }
        status, _, made = self.ask("POST", "/2015-03-31/functions", body=json.dumps(body))
        self.assertEqual((status, json.loads(made)["TenancyConfig"]), (201, {"TenantIsolationMode": "PER_TENANT"}))
        for tenant in ("blue", "blue", "green"):
            status, _, told = self.invoke("tenants", headers={"X-Amz-Tenant-Id": tenant})
            # No instance has served another tenant before.
            self.assertEqual((status, told["tenant"], told["calls"]), (200, tenant, 1))
        for name, headers, kind, part in (
            ("tenants", {}, "InvalidParameterValueException", "Add a valid tenant ID"),
            ("tell", {"X-Amz-Tenant-Id": "blue"}, "InvalidParameterValueException", "Remove the tenant ID"),
            ("tenants", {"X-Amz-Tenant-Id": "a*b"}, "ValidationException", "tenantId"),
            ("tenants", {"X-Amz-Tenant-Id": "a" * 257}, "ValidationException", "tenantId"),
            ("tenants", {"X-Amz-Invocation-Type": "Event"}, "InvalidParameterValueException", "Add a valid tenant ID"),
        ):
            status, told, body = self.invoke(name, headers=headers)
            self.assertEqual((status, told["x-amzn-ErrorType"]), (400, kind))
            self.assertIn(part, body["message"])

    # Limits.

    def refused(self, code, status, call, **options):
        with self.assertRaises(ClientError) as caught:
            call(**options)
        response = caught.exception.response
        self.assertEqual((response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]), (code, status))
        return response

    def test_sizes(self):
        invoke = self.api.invoke
        text = lambda length: json.dumps("x" * (length - 2))
        self.assertNotIn("FunctionError", invoke(FunctionName="tell", Payload=text(6291456 - 1000)))
        message = "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
        found = self.refused("RequestEntityTooLargeException", 413, invoke, FunctionName="tell", Payload=text(6291457))
        self.assertEqual(found["Error"]["Message"], message)
        stream = self.api.invoke_with_response_stream
        self.refused("RequestEntityTooLargeException", 413, stream, FunctionName="tell", Payload=text(6291457))
        found = self.refused(
            "RequestEntityTooLargeException", 413, invoke,
            FunctionName="tell", Payload=text(1048577), InvocationType="Event",
        )
        self.assertEqual(
            found["Error"]["Message"], "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
        )
        _, url = self.url("large")
        status, headers, _ = self.ask("POST", f"{url}/", body=b"x" * 6291457)
        self.assertEqual(status, 413)
        large = json.loads(invoke(FunctionName="large", Payload=json.dumps({"length": 6291556}))["Payload"].read())
        self.assertEqual(large["errorType"], "Function.ResponseSizeTooLarge")

    def test_sizes_can_be_raised(self):
        config = self.node.folder / "raised.toml"
        config.write_text(LIMITS)
        with Node("--config", config) as node:
            api = node.client()
            self.create("large", "large", api)
            self.create("tell", "tell", api)
            answer = json.loads(api.invoke(FunctionName="large", Payload=json.dumps({"length": 7500000}))["Payload"].read())
            self.assertEqual(len(answer), 7500000)
            event = json.dumps({"length": 1, "more": "x" * 6900000})
            self.assertNotIn("FunctionError", api.invoke(FunctionName="large", Payload=event))
            event = json.dumps("x" * 1900000)
            self.assertEqual(api.invoke(FunctionName="tell", Payload=event, InvocationType="Event")["StatusCode"], 202)

    def test_why_an_invocation_is_throttled(self):
        self.create("reserved", "wait")
        self.api.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=0)
        found = self.refused("TooManyRequestsException", 429, self.api.invoke, FunctionName="reserved")
        self.assertEqual((found["Error"]["Message"], found["Type"]), ("Rate Exceeded.", "User"))
        self.assertEqual(found["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded")
        _, url = self.url("reserved")
        self.assertEqual(self.ask("GET", f"{url}/")[0], 429)
        config = self.node.folder / "few.toml"
        config.write_text("[dispatch]\nconcurrency = 0\n")
        with Node("--config", config) as node:
            self.create("wait", "wait", node.client())
            found = self.refused("TooManyRequestsException", 429, node.client().invoke, FunctionName="wait")
            self.assertEqual(found["Reason"], "ConcurrentInvocationLimitExceeded")


if __name__ == "__main__":
    unittest.main()
