"""Functions that bring their own runtime: AWS's Runtime API, endpoint by endpoint, and its real clients, unmodified."""

import base64
import importlib.metadata
import io
import json
import subprocess
import unittest
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from harness import FIXTURES, HERE, REPOSITORY, Node, deploy, eventually, invoke, lichen

EXIT = "Runtime.ExitError"
WORDS = REPOSITORY / "examples" / "words"


class RuntimeApi(unittest.TestCase):
    """`fixtures/provided` speaks the Runtime API by hand, and does what each test asks it to."""

    @classmethod
    def setUpClass(cls):
        cls.node = cls.enterClassContext(Node())
        cls.api = cls.node.client()
        cls.name = cls.make()

    @classmethod
    def make(cls, **settings):
        defaults = {"Runtime": "provided.al2023", "Handler": "some.handler"}
        return deploy(cls.api, "provided", **{**defaults, **settings})

    def ask(self, what, name=None, **event):
        """What the function says of it."""
        answer = invoke(self.api, name or self.name, {"do": what, **event}, log=True)
        self.assertFalse(answer.failed, f"{answer.value}\n{answer.log}")
        return answer.value

    def fail(self, what, name=None, **event):
        """The error of an invocation that fails; the next does not."""
        answer = invoke(self.api, name or self.name, {"do": what, **event}, log=True)
        self.assertTrue(answer.failed, answer.value)
        self.assertEqual(self.ask("echo", name=name, value="well"), "well")
        return answer.value

    def calls(self, *calls):
        return self.ask("calls", calls=calls)

    def raw(self, *texts):
        return self.ask("raw", texts=[base64.b64encode(text).decode() for text in texts])

    # What is served.

    def test_an_event_comes_and_its_answer_goes(self):
        for value in [1, "text", {"a": [None, 1.5]}, "x" * 1_000_000]:
            self.assertEqual(self.ask("echo", value=value), value)

    def test_the_event_has_its_headers(self):
        context = base64.b64encode(json.dumps({"custom": {"a": 1}}, indent=1).encode()).decode()
        reply = self.api.invoke(FunctionName=self.name, Payload=b'{"do": "head"}', ClientContext=context)
        head = json.loads(reply["Payload"].read())
        self.assertEqual(head["content-type"], "application/json")
        self.assertRegex(head["lambda-runtime-aws-request-id"], "^[0-9a-f-]{36}$")
        self.assertIn(f":function:{self.name}", head["lambda-runtime-invoked-function-arn"])
        self.assertEqual(len(head["lambda-runtime-deadline-ms"]), 13)
        self.assertEqual(json.loads(head["lambda-runtime-client-context"]), {"custom": {"a": 1}})

    def test_its_environment_is_lambdas(self):
        name = self.make(Environment={"Variables": {"OWN": "value"}}, MemorySize=512)
        found = self.ask("environment", name=name)
        expected = {
            "_HANDLER": "some.handler",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
            "LAMBDA_TASK_ROOT": "/var/task",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PWD": "/var/task",
            "OWN": "value",
        }
        self.assertEqual({key: found.get(key) for key in expected}, expected)
        self.assertNotIn("AWS_EXECUTION_ENV", found)
        self.assertFalse([key for key in found if key.startswith("LICHEN")], "nothing of ours")

    def test_an_instance_serves_one_after_the_other(self):
        name = self.make()
        streams = {self.ask("environment", name=name)["AWS_LAMBDA_LOG_STREAM_NAME"] for _ in range(5)}
        self.assertLessEqual(len(streams), 2, "the first may have been another's")

    def test_what_it_prints_is_logged(self):
        answer = invoke(self.api, self.name, {"do": "print", "text": "words for the log"}, log=True)
        self.assertIn("words for the log", answer.log)

    # Answers in parts.

    def stream(self, parts, **more):
        """What came of an answer in parts: bytes, and how it ended."""
        event = {"do": "stream", "parts": [base64.b64encode(part).decode() for part in parts], **more}
        reply = self.api.invoke_with_response_stream(FunctionName=self.name, Payload=json.dumps(event))
        events = list(reply["EventStream"])
        got = b"".join(event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event)
        return got, events[-1]["InvokeComplete"]

    def test_an_answer_in_parts(self):
        for parts in ([b"one", b"two"], [], [b"x" * 100_000, b"y" * 3_000_000, b"z"]):
            got, end = self.stream(parts)
            self.assertEqual((got == b"".join(parts), end.get("ErrorCode")), (True, None))
        answer = self.api.invoke(
            FunctionName=self.name, Payload=json.dumps({"do": "stream", "parts": [base64.b64encode(b"[1,2]").decode()]})
        )
        self.assertEqual(json.loads(answer["Payload"].read()), [1, 2], "who asks for a whole answer gets one")

    def test_an_answer_in_parts_that_fails(self):
        error = {"errorType": "My.Kind", "errorMessage": "half way"}
        body = base64.b64encode(json.dumps(error).encode()).decode()
        trailers = ["Lambda-Runtime-Function-Error-Type: My.Kind", f"Lambda-Runtime-Function-Error-Body: {body}"]
        got, end = self.stream([b"half"], trailers=trailers)
        self.assertEqual((got, end["ErrorCode"]), (b"half", "Unhandled"))
        self.assertEqual(json.loads(end["ErrorDetails"]), error)
        self.assertEqual(self.ask("echo", value="well"), "well")

    # What is refused.

    def test_answers_to_nobody(self):
        answers = self.calls(
            ["POST", "/2018-06-01/runtime/invocation/nobody/response", "1"],
            ["POST", "/2018-06-01/runtime/invocation/nobody/error", "{}"],
            ["POST", "/2018-06-01/runtime/init/error", "{}"],
            ["GET", "/2018-06-01/runtime/restore/next"],
            ["POST", "/2018-06-01/runtime/restore/error", "{}"],
        )
        self.assertEqual([status for status, _, _ in answers], [400, 400, 403, 403, 403])
        wrong = {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"}
        self.assertEqual([json.loads(answers[0][2]), json.loads(answers[1][2])], [wrong, wrong])
        self.assertEqual(
            json.loads(answers[2][2]),
            {
                "errorMessage": "State transition from Running to InitError failed for runtime. "
                "Error: State transition is not allowed",
                "errorType": "InvalidStateTransition",
            },
        )

    def test_the_invocation_is_told_again(self):
        (status, headers, body), = self.calls(["GET", "/2018-06-01/runtime/invocation/next"])
        self.assertEqual(status, 200)
        self.assertEqual(json.loads(body)["do"], "calls")

    def test_paths_and_methods_that_are_not(self):
        answers = self.calls(
            ["GET", "/"], ["GET", "/2018-06-01/runtime/invocation"], ["DELETE", "/2018-06-01/runtime/invocation/next"],
            ["GET", "/2018-06-01/ping"],
        )
        self.assertEqual([status for status, _, _ in answers], [404, 404, 405, 200])

    def test_a_second_answer_is_refused(self):
        name = self.make()
        path = "/2018-06-01/runtime/invocation/{id}/response"
        answer = invoke(self.api, name, {"do": "calls", "calls": [["POST", path, '"first"'], ["POST", path, '"second"']]})
        self.assertEqual(answer.value, "first")
        self.assertEqual(self.ask("echo", name=name, value=2), 2)

    def test_garbage(self):
        garbage = [
            b"\x16\x03\x01\x00\xa5\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 70000,
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ]
        for said in self.raw(*garbage):
            self.assertRegex(said, "^(HTTP/1.1 400 |$)")

    def test_connections_that_say_little(self):
        self.assertEqual(self.ask("flood", count=800), "pong")

    # What fails.

    def test_an_error_is_the_functions_own(self):
        error = {"errorMessage": "broken", "errorType": "My.Error", "stackTrace": ["here"]}
        self.assertEqual(self.fail("error", error=error), error)

    def test_an_exit(self):
        error = self.fail("exit", status=7)
        self.assertEqual(error["errorType"], EXIT)
        self.assertRegex(error["errorMessage"], "^RequestId: [0-9a-f-]{36} Error: Runtime exited with error: exit status 7$")
        self.assertIn("Runtime exited without providing a reason", self.fail("exit")["errorMessage"])

    def test_a_signal(self):
        error = self.fail("kill", signal=11)
        self.assertIn("Runtime exited with error: signal: segmentation fault", error["errorMessage"])

    def test_too_little_memory(self):
        error = self.fail("allocate", mib=2000)
        self.assertEqual(error["errorType"], "Runtime.OutOfMemory")

    def test_too_little_time(self):
        name = self.make(Timeout=1)
        self.assertEqual(self.ask("echo", name=name, value=1), 1)
        error = self.fail("sleep", name=name, seconds=20)
        self.assertEqual(error["errorType"], "Sandbox.Timedout")
        self.assertRegex(error["errorMessage"], "Task timed out after 1.00 seconds$")

    def test_too_long_an_answer(self):
        for size in (7 << 20, 300 << 20):
            error = self.fail("huge", size=size)
            self.assertEqual(error["errorType"], "Function.ResponseSizeTooLarge")
            self.assertIn("(6291556 bytes)", error["errorMessage"])

    def test_half_an_answer(self):
        self.assertEqual(self.fail("truncate")["errorType"], "Runtime.TruncatedResponse")

    def test_one_that_ends_after_its_answer(self):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: self.ask("last"), range(80)))
        self.assertEqual(set(answers), {"last"})

    def test_one_that_does_not_ask_again(self):
        name = self.make(Timeout=1)
        self.assertEqual(self.ask("stay", name=name), "stay")
        # The next may be the same instance's, and then waits in vain; the one after that gets another.
        answers = [invoke(self.api, name, {"value": value}) for value in range(3)]
        failed = [answer.value["errorType"] for answer in answers if answer.failed]
        self.assertIn(failed, ([], ["Sandbox.Timedout"]))

    def test_the_server_is_killed(self):
        self.assertEqual(self.fail("kill-server")["errorType"], EXIT)

    def test_children_that_stay(self):
        for _ in range(3):
            self.assertEqual(self.ask("fork"), "forked")

    def test_no_bootstrap(self):
        name = deploy(self.api, "counter", Runtime="provided.al2", Handler="none")
        answer = invoke(self.api, name)
        self.assertTrue(answer.failed)
        self.assertEqual(answer.value["errorType"], "Runtime.InvalidEntrypoint")
        self.assertRegex(
            answer.value["errorMessage"],
            r"^RequestId: [0-9a-f-]{36} Error: Couldn't find valid bootstrap\(s\): \[/var/task/bootstrap /opt/bootstrap\]$",
        )

    def test_a_bootstrap_in_a_layer(self):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.write(FIXTURES / "provided/bootstrap", "bootstrap")
        layer = self.api.publish_layer_version(LayerName="bootstrap", Content={"ZipFile": content.getvalue()})
        name = deploy(
            self.api, "counter", Runtime="provided.al2023", Handler="none", Layers=[layer["LayerVersionArn"]]
        )
        self.assertEqual(self.ask("echo", name=name, value=4), 4)

    def begin(self, how):
        answer = invoke(self.api, self.make(Environment={"Variables": {"BEGIN": how}}), log=True)
        self.assertTrue(answer.failed, answer.value)
        return answer

    def test_it_cannot_begin(self):
        answer = self.begin("error")
        self.assertEqual(answer.value, {"errorMessage": "no luck", "errorType": "Function.NoLuck"})
        answer = self.begin("exit")
        self.assertEqual(answer.value["errorType"], EXIT)
        self.assertIn("exit status 5", answer.value["errorMessage"])

    def test_it_never_asks(self):
        name = self.make(Timeout=1, Environment={"Variables": {"BEGIN": "never"}})
        self.assertEqual(invoke(self.api, name).value["errorType"], "Sandbox.Timedout")

    def test_restore(self):
        name = self.make(Environment={"Variables": {"BEGIN": "restore"}})
        self.assertEqual(self.ask("echo", name=name, value=3), 3)
        self.assertEqual(self.begin("restore-error").value["errorMessage"], "no way back")


class Clients(unittest.TestCase):
    """AWS's own runtime clients, as they come from PyPI, npm and crates.io."""

    @classmethod
    def setUpClass(cls):
        cls.node = cls.enterClassContext(Node())
        cls.api = cls.node.client()

    def create(self, name, files, handler):
        """A function of these files, by their names: bytes, or where they are."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for path, data in files.items():
                entry = zipfile.ZipInfo(path)
                entry.external_attr = (0o755 if path == "bootstrap" else 0o644) << 16
                archive.writestr(entry, data if isinstance(data, bytes) else Path(data).read_bytes())
        self.api.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler=handler, Timeout=30, MemorySize=512,
            Role="arn:aws:iam::000000000000:role/test", Code={"ZipFile": content.getvalue()},
        )
        return name

    def python_client(self):
        """The files of awslambdaric and what it needs, which the tests' own Python has."""
        names = ("awslambdaric", "simplejson", "snapshot_restore_py")
        files = [file for name in names for file in importlib.metadata.files(name)]
        return {str(file): file.locate() for file in files if ".." not in file.parts and file.suffix in (".py", ".so")}

    def node_client(self):
        """The files of aws-lambda-ric, native code included."""
        root = HERE / "node_modules" / "aws-lambda-ric"
        files = [path for part in ("bin", "dist", "package.json") for path in [root / part, *(root / part).rglob("*")]]
        return {f"node_modules/aws-lambda-ric/{path.relative_to(root)}": path for path in files if path.is_file()}

    def check_handler(self, name, error):
        for value in (1, 2):
            answer = invoke(self.api, name, {"value": value}, log=True)
            self.assertFalse(answer.failed, f"{answer.value}\n{answer.log}")
            self.assertEqual(answer.value["got"], {"value": value})
            self.assertIn(f":function:{name}", answer.value["arn"])
            self.assertTrue(0 < answer.value["left"] <= 30000)
            self.assertIn(f"RequestId: {answer.value['request']}", answer.log)
            self.assertIn(f"served by {name}", answer.log)
        failed = invoke(self.api, name, {"fail": True})
        self.assertTrue(failed.failed)
        self.assertEqual((failed.value["errorType"], failed.value["errorMessage"]), (error, "as asked"))
        self.assertFalse(invoke(self.api, name, {"value": 3}).failed)

    def test_awslambdaric(self):
        bootstrap = b'#!/bin/sh\nexec python3 -m awslambdaric "$_HANDLER"\n'
        files = {"bootstrap": bootstrap, "app.py": FIXTURES / "clients/app.py", **self.python_client()}
        name = self.create("by-awslambdaric", files, "app.handler")
        self.check_handler(name, "ValueError")
        context = base64.b64encode(b'{"custom": {"a": "b"}}').decode()
        reply = self.api.invoke(FunctionName=name, Payload=b"{}", ClientContext=context)
        self.assertEqual(json.loads(reply["Payload"].read())["custom"], {"a": "b"})
        broken = self.create("by-awslambdaric-broken", files, "nowhere.handler")
        answer = invoke(self.api, broken)
        self.assertEqual(answer.value["errorType"], "Runtime.ImportModuleError")

    def test_aws_lambda_ric(self):
        bootstrap = b'#!/bin/sh\nexec node node_modules/aws-lambda-ric/bin/index.mjs "$_HANDLER"\n'
        files = {"bootstrap": bootstrap, "index.js": FIXTURES / "clients/index.js", **self.node_client()}
        self.check_handler(self.create("by-aws-lambda-ric", files, "index.handler"), "RangeError")
        streams = self.create("by-aws-lambda-ric-streams", files, "index.streams")
        reply = self.api.invoke_with_response_stream(FunctionName=streams, Payload=b'{"parts": 3}')
        parts = [event["PayloadChunk"]["Payload"] for event in reply["EventStream"] if "PayloadChunk" in event]
        self.assertEqual(b"".join(parts), b"part 0\npart 1\npart 2\n")

    def words(self):
        """The programs of examples/words."""
        target = REPOSITORY / ".build" / "words"
        build = ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", WORDS / "Cargo.toml"]
        subprocess.run([*build, "--target-dir", target], check=True, timeout=900)
        return target / "release"

    def test_lambda_runtime(self):
        done = lichen("deploy", self.words() / "bootstrap", "--name", "words", endpoint=self.node.endpoint)
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = invoke(self.api, "words", json.loads((WORDS / "event.json").read_text()))
        self.assertEqual((answer.value["words"], answer.value["longest"]), (6, "not"))
        error = invoke(self.api, "words", {"text": ""})
        self.assertTrue(error.failed)
        self.assertEqual(error.value["errorMessage"], "there is no text")
        self.assertEqual(invoke(self.api, "words", {"text": "one"}).value["words"], 1)

    def test_lambda_extension(self):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.write(self.words() / "watch", "extensions/watch")
        layer = self.api.publish_layer_version(LayerName="watch", Content={"ZipFile": content.getvalue()})
        name = deploy(
            self.api, "provided", Runtime="provided.al2023", Handler="x", Layers=[layer["LayerVersionArn"]]
        )
        invoke(self.api, name, {"do": "print", "text": "words for it"})
        logs = boto3.client(
            "logs", endpoint_url=self.node.endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
        )

        def told():
            # What is printed between invocations is read with the next.
            invoke(self.api, name)
            events = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern="watch")["events"]
            text = "".join(event["message"] for event in events)
            parts = ("watch: invoke ", "PlatformInitStart", "words for it", "PlatformRuntimeDone", "PlatformReport")
            return all(part in text for part in parts)

        eventually(told, "everything that it is told")


if __name__ == "__main__":
    unittest.main()
