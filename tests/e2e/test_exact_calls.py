"""AWS's answers to those who call functions, member by member; `test_exact` has what is asked of the control plane."""

import base64
import json
import unittest
import urllib.parse

from test_control import ROLE
from test_exact import FUNCTIONS, Exact, zipped


class Invocation(Exact):
    def test_kinds(self):
        self.create()
        plain = self.invoke({"a": 1})
        self.assertEqual((plain.status, plain.headers["x-amz-executed-version"]), (200, "$LATEST"))
        self.assertNotIn("x-amz-function-error", plain.headers)
        self.assertEqual(plain.json["request"], plain.headers["x-amzn-requestid"])
        event = self.invoke({}, X_Amz_Invocation_Type="Event")
        self.assertEqual((event.status, event.body), (202, b""))
        self.assertNotIn("x-amz-function-error", event.headers)
        dry = self.invoke({}, X_Amz_Invocation_Type="DryRun")
        self.assertEqual((dry.status, dry.body), (204, b""))
        empty = self.ask("POST", self.at("/invocations"))
        self.assertEqual(empty.json["event"], {})
        broken = self.ask("POST", self.at("/invocations"), "{")
        self.assertEqual(broken.refusal[:2], (400, "InvalidRequestContentException"))
        self.assertTrue(broken.json["message"].startswith("Could not parse request body into json: "))
        place = "\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: "
        for body, why in (
            (b"n\x87r\x9e", f"Invalid UTF-8 start byte 0x87{place}3]"),
            (
                b"\x99\xeb,j",
                "Unexpected character ((CTRL-CHAR, code 153)): expected a valid value (JSON String, Number, Array, Object or "
                f"token 'null', 'true' or 'false'){place}1]",
            ),
        ):
            message = self.ask("POST", self.at("/invocations"), body).json["message"]
            self.assertEqual(message, f"Could not parse request body into json: Could not parse payload into json: {why}")

    def test_client_context_is_decoded(self):
        self.create()
        context = base64.b64encode(b'{"custom": {"a": "1"}}').decode()
        self.assertEqual(self.invoke({}, X_Amz_Client_Context=context).json["client"], {"a": "1"})

    def test_log_tails(self):
        self.create()
        reply = self.invoke({"print": "a line"}, X_Amz_Log_Type="Tail")
        log = base64.b64decode(reply.headers["x-amz-log-result"]).decode()
        request = reply.headers["x-amzn-requestid"]
        self.assertTrue(log.startswith(f"START RequestId: {request} Version: $LATEST\n"), log)
        self.assertIn("a line\nEND RequestId: " + request, log)
        self.assertRegex(
            log,
            rf"REPORT RequestId: {request}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\t"
            r"Max Memory Used: \d+ MB",
        )
        self.assertNotIn("x-amz-log-result", self.invoke({"print": "a line"}).headers)

    def test_errors_of_functions(self):
        self.create(Timeout=1)
        raised = self.invoke({"raise": "no"})
        self.assertEqual((raised.status, raised.headers["x-amz-function-error"]), (200, "Unhandled"))
        self.assertEqual(list(raised.json), ["errorMessage", "errorType", "requestId", "stackTrace"])
        self.assertEqual((raised.json["errorMessage"], raised.json["errorType"]), ("no", "ValueError"))
        left = self.invoke({"exit": 127})
        request = left.headers["x-amzn-requestid"]
        text = f"RequestId: {request} Error: Runtime exited with error: exit status 127"
        self.assertEqual(left.json, {"errorType": "Runtime.ExitError", "errorMessage": text})
        late = self.invoke({"sleep": 30})
        text = f"RequestId: {late.headers['x-amzn-requestid']} Error: Task timed out after 1.00 seconds"
        self.assertEqual(late.json, {"errorType": "Sandbox.Timedout", "errorMessage": text})
        long = self.invoke({"long": 6 * 1024 * 1024 + 100})
        text = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
        self.assertEqual(long.json, {"errorMessage": text, "errorType": "Function.ResponseSizeTooLarge"})

    def test_the_place_of_a_function(self):
        self.create(Environment={"Variables": {"OWN": "1"}})
        told = self.invoke().json
        environment = told["environment"]
        expected = {
            "_HANDLER": "app.handler", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "OWN": "1",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11", "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": told["stream"], "LANG": "en_US.UTF-8", "TZ": ":UTC",
            "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime", "PWD": "/var/task",
            "PYTHONPATH": "/var/runtime", "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        }
        self.assertEqual({name: environment.get(name) for name in expected}, expected)
        self.assertIn("/opt/bin", environment["PATH"].split(":"))
        self.assertIn("/opt/lib", environment["LD_LIBRARY_PATH"].split(":"))
        self.assertRegex(environment["_X_AMZN_TRACE_ID"], r"^Root=1-[0-9a-f]{8}-[0-9a-f]{24}")
        self.assertRegex(told["stream"], r"^\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}$")
        names = "aws_request_id function_name function_version invoked_function_arn memory_limit_in_mb log_group_name \
            log_stream_name identity client_context tenant_id get_remaining_time_in_millis log"
        self.assertEqual(set(names.split()) - set(told["context"]), set())
        self.assertEqual((told["memory"], told["arn"], told["group"]), ("128", self.arn, f"/aws/lambda/{self.name}"))

    def test_limits(self):
        self.create()
        body = json.dumps({"a": "x" * (6 * 1024 * 1024)})
        large = self.ask("POST", self.at("/invocations"), body)
        self.assertEqual(large.refusal[:2], (413, "RequestEntityTooLargeException"))
        text = "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
        self.assertEqual(large.json["message"], text)
        for more, code, message in (
            ({"Environment": {"Variables": {"LARGE_VAR": "x" * 4096}}}, "InvalidParameterValueException", "4KB limit"),
            ({"Tags": {str(n): "" for n in range(51)}}, "InvalidParameterValueException", "Number of tags exceeds"),
            ({"Timeout": 901}, "ValidationException", "less than or equal to 900"),
            ({"MemorySize": 127}, "ValidationException", "greater than or equal to 128"),
            ({"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:l:1"] * 6}, "InvalidParameterValueException", "5 layers"),
            ({"Runtime": "python3.7"}, "InvalidParameterValueException", "The runtime parameter of python3.7 is no longer supported"),
            ({"Runtime": "PYTHON3.9"}, "InvalidParameterValueException", "Value PYTHON3.9 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x, java25, python3.10, python3.11, java21, ruby3.3, ruby3.4, ruby3.2, python3.8, python3.9, java17, nodejs16.x, dotnet10, dotnet8, java11, dotnet6, nodejs18.x, provided.al2, java8.al2] or be a valid ARN"),
        ):
            settings = {
                "FunctionName": f"{self.name}-x", "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler",
                "Code": {"ZipFile": base64.b64encode(zipped()).decode()}, **more,
            }
            reply = self.ask("POST", FUNCTIONS, settings)
            self.assertEqual(reply.refusal[:2], (400, code), reply.body)
            self.assertIn(message, reply.json["message"])


class Urls(Exact):
    def test_the_event_and_who_may_ask(self):
        self.create()
        made = self.ask("POST", self.at("/url", "2021-10-31"), {"AuthType": "NONE"}).json
        self.assertEqual(
            set(made), {"FunctionUrl", "FunctionArn", "AuthType", "CreationTime"}
        )
        self.assertEqual(self.ask("GET", self.at("/url", "2021-10-31")).json["InvokeMode"], "BUFFERED")
        parts = urllib.parse.urlsplit(made["FunctionUrl"])
        identity = parts.netloc.split(".")[0]
        self.assertRegex(parts.netloc, rf"^{identity}\.lambda-url\.us-east-1\.")
        answer = self.ask("GET", "/p%20q?a=1&a=2", headers={"Host": parts.netloc, "Cookie": "c=1", "X-Own": "v"}, signed=False)
        event = answer.json["event"]
        self.assertEqual(
            set(event),
            {
                "version", "routeKey", "rawPath", "rawQueryString", "cookies", "headers", "queryStringParameters",
                "requestContext", "isBase64Encoded",
            },
        )
        self.assertEqual((event["version"], event["routeKey"], event["cookies"]), ("2.0", "$default", ["c=1"]))
        self.assertEqual((event["queryStringParameters"], event["headers"]["x-own"]), ({"a": "1,2"}, "v"))
        context = event["requestContext"]
        self.assertEqual(
            set(context),
            {
                "accountId", "apiId", "domainName", "domainPrefix", "http", "requestId", "routeKey", "stage", "time", "timeEpoch",
            },
        )
        self.assertEqual(set(context["http"]), {"method", "path", "protocol", "sourceIp", "userAgent"})
        self.assertEqual((context["apiId"], context["domainPrefix"], context["stage"]), (identity, identity, "$default"))
        self.ask("PUT", self.at("/url", "2021-10-31"), {"AuthType": "AWS_IAM"})
        refused = self.ask("GET", "/", headers={"Host": parts.netloc}, signed=False)
        self.assertEqual(refused.refusal[:2], (403, "AccessDeniedException"))
        self.assertTrue(refused.json["Message"].startswith("Forbidden"))
        by_path = self.ask("GET", f"/_aws/lambda-url/{identity}/x")
        self.assertEqual(by_path.status, 200)

    def test_what_describes_no_response_is_written_in_one_way(self):
        for returned, body in (
            ('{"a b": [1, 2.5, {"c": "d, e"}]}', b'{"a b":[1,2.5,{"c":"d, e"}]}'), ('["a", 3, True]', b'["a",3,true]'),
            ('"text"', b"text"), ('"a\\n\\"b\\""', b'a\n"b"'), ("3.1", b"3.1"), ("True", b"true"), ("None", b"null"),
            ('{"statusCode": 200, "body": "{ \\"a\\": 1 }"}', b'{ "a": 1 }'),
        ):
            source = f"def handler(event, context):\n    return {returned}\n"
            self.create(Code={"ZipFile": base64.b64encode(zipped(source)).decode()})
            url = urllib.parse.urlsplit(self.ask("POST", self.at("/url", "2021-10-31"), {"AuthType": "NONE"}).json["FunctionUrl"])
            answer = self.ask("GET", "/", headers={"Host": url.netloc}, signed=False)
            self.assertEqual((answer.status, answer.headers["content-type"], answer.body), (200, "application/json", body))
            self.ask("DELETE", self.at())

    def test_headers_that_end_with_the_connection_are_no_part_of_an_event(self):
        self.create()
        url = urllib.parse.urlsplit(self.ask("POST", self.at("/url", "2021-10-31"), {"AuthType": "NONE"}).json["FunctionUrl"])
        hop = {"Connection": "keep-alive", "Keep-Alive": "timeout=5", "Extra-Header": "With WeiRd CapS"}
        headers = self.ask("GET", "/", headers={"Host": url.netloc, **hop}, signed=False).json["event"]["headers"]
        self.assertFalse({"connection", "keep-alive"} & set(headers), headers)
        self.assertEqual((headers["extra-header"], headers["x-forwarded-port"]), ("With WeiRd CapS", str(url.port)))

    def test_urls_that_are_not_there(self):
        never = self.ask("GET", "/", headers={"Host": "0123456789abcdefghijklmnopqrstuv.lambda-url.us-east-1.localhost"})
        self.assertEqual(never.refusal, (403, "AccessDeniedException", {"Message": None}))
        self.create(Publish=True)
        self.ask("POST", self.at("/aliases"), {"Name": "live", "FunctionVersion": "1"})
        made = self.ask("POST", self.at("/url?Qualifier=live", "2021-10-31"), {"AuthType": "NONE"}).json
        host = {"Host": urllib.parse.urlsplit(made["FunctionUrl"]).netloc}
        self.assertEqual(self.ask("GET", "/", headers=host, signed=False).status, 200)
        self.ask("DELETE", self.at("/aliases/live"))
        gone = self.ask("GET", "/", headers=host, signed=False)
        self.assertEqual(gone.refusal[:2], (403, "AccessDeniedException"))
        self.assertTrue(gone.json["Message"].startswith("Forbidden. For troubleshooting Function URL"))


if __name__ == "__main__":
    unittest.main()
