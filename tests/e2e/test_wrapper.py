"""Python and Node.js functions whose start is wrapped (AWS_LAMBDA_EXEC_WRAPPER), or that have extensions beside them: what
they are told and how they answer is as without."""

import base64
import io
import json
import unittest
import zipfile

import boto3
from harness import FIXTURES, Node, eventually, invoke

PYTHON = """
import decimal, json, logging, os, sys
import snapshot_restore_py
print("loaded", __name__)
hooks = []
snapshot_restore_py.register_before_snapshot(hooks.append, "before 1")
snapshot_restore_py.register_before_snapshot(hooks.append, "before 2")
snapshot_restore_py.register_after_restore(hooks.append, "after 1")
def hooked(event, context):
    return hooks
def handler(event, context):
    what = event.get("do")
    if what == "raise":
        raise KeyError("as asked")
    if what == "exit":
        sys.exit(6)
    if what == "bytes":
        return b'{"raw": true}'
    if what == "huge":
        return "x" * 7_000_000
    if what == "set":
        return {1, 2}
    logging.getLogger().warning("a warning")
    print("printed")
    return {
        "event": event, "number": decimal.Decimal("1.50"), "wrapped": os.environ.get("WRAPPED"), "flags": sys.flags.no_user_site,
        "context": [context.function_name, context.function_version, context.memory_limit_in_mb, context.aws_request_id,
                    context.invoked_function_arn, context.log_group_name, context.get_remaining_time_in_millis() > 0],
        "custom": context.client_context.custom if context.client_context else None,
        "task": sys.path[0], "ours": [path for path in sys.path if "runtime/python" in path],
        "execution": os.environ["AWS_EXECUTION_ENV"],
    }
"""
NODE = """
console.log('loaded');
exports.handler = async (event, context) => {
  if (event.do === 'raise') throw new TypeError('as asked');
  if (event.do === 'exit') process.exit(6);
  if (event.do === 'never') return new Promise(() => {});
  if (event.do === 'reject') { Promise.reject(new Error('nobody cares')); await new Promise((done) => setTimeout(done, 500)); }
  if (event.do === 'huge') return 'x'.repeat(7_000_000);
  console.warn('a warning');
  return { event, wrapped: process.env.WRAPPED, flags: process.execArgv,
    context: [context.functionName, context.functionVersion, context.memoryLimitInMB, context.awsRequestId,
              context.invokedFunctionArn, context.logGroupName, context.getRemainingTimeInMillis() > 0],
    execution: process.env.AWS_EXECUTION_ENV, fetch: typeof fetch };
};
exports.back = (event, context, done) => setTimeout(() => done(null, event), 1);
exports.streams = awslambda.streamifyResponse(async (event, stream) => {
  stream.setContentType('text/x');
  for (let part = 0; part < event.parts; part++) {
    if (!stream.write(Buffer.alloc(event.size, 97 + part))) await new Promise((go) => stream.once('drain', go));
  }
  if (event.fail) throw new RangeError('half way');
  stream.end();
});
"""
# As AWS's documentation has it: options go before the last argument.
WRAPPER = """#!/bin/bash
export WRAPPED=yes
args=("$@")
exec "${args[@]:0:$#-1}" %s "${args[@]: -1}"
"""


def zipped(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, (text, mode) in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, text)
    return content.getvalue()


class Wrapped(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = cls.enterClassContext(Node())
        cls.api = cls.node.client()
        cls.names = iter(range(100))

    def make(self, language, handler=None, wrapper="/opt/wrapper", layer=None, **settings):
        """A function of this language; `layer` has its wrapper unless it is another's."""
        python = language == "python"
        code = {"app.py": (PYTHON, 0o644)} if python else {"index.js": (NODE, 0o644)}
        if layer is None:
            script = WRAPPER % ("-s" if python else "--no-warnings")
            content = {"ZipFile": zipped({"wrapper": (script, 0o755)})}
            layer = self.api.publish_layer_version(LayerName="wrapper", Content=content)["LayerVersionArn"]
        variables = {"AWS_LAMBDA_EXEC_WRAPPER": wrapper} if wrapper else {}
        name = f"wrapped-{language}-{next(self.names)}"
        self.api.create_function(
            FunctionName=name, Runtime="python3.11" if python else "nodejs20.x", Timeout=20, MemorySize=256,
            Handler=handler or ("app.handler" if python else "index.handler"), Code={"ZipFile": zipped(code)},
            Role="arn:aws:iam::000000000000:role/test", Layers=[layer], Environment={"Variables": variables}, **settings,
        )
        return name

    def check_context(self, name, value):
        function, version, memory, request, arn, group, in_time = value["context"]
        self.assertEqual((function, version, memory, group), (name, "$LATEST", "256", f"/aws/lambda/{name}"))
        self.assertIn(f":function:{name}", arn)
        self.assertTrue(in_time)
        return request

    def test_python(self):
        name = self.make("python")
        context = base64.b64encode(b'{"custom": {"a": "b"}}').decode()
        reply = self.api.invoke(FunctionName=name, Payload=b'{"a": 1}', ClientContext=context, LogType="Tail")
        value, log = json.loads(reply["Payload"].read()), base64.b64decode(reply["LogResult"]).decode()
        request = self.check_context(name, value)
        self.assertEqual((value["event"], value["number"], value["custom"]), ({"a": 1}, 1.5, {"a": "b"}))
        self.assertEqual((value["wrapped"], value["flags"], value["execution"]), ("yes", 1, "AWS_Lambda_python3.11"))
        self.assertEqual((value["task"], value["ours"]), ("/var/task", []))
        self.assertIn("loaded app", log)
        self.assertIn("printed", log)
        self.assertRegex(log, rf"\[WARNING\]\t[0-9TZ:.-]+\t{request}\ta warning")
        self.assertEqual(invoke(self.api, name, {"do": "bytes"}).value, {"raw": True})
        error = invoke(self.api, name, {"do": "raise"}).value
        self.assertEqual((error["errorType"], error["errorMessage"]), ("KeyError", "'as asked'"))
        self.assertEqual(len(error["stackTrace"]), 1, error)
        self.assertEqual(invoke(self.api, name, {"do": "set"}).value["errorType"], "Runtime.MarshalError")
        self.assertEqual(invoke(self.api, name, {"do": "huge"}).value["errorType"], "Function.ResponseSizeTooLarge")
        self.assertIn("exit status 6", invoke(self.api, name, {"do": "exit"}).value["errorMessage"])
        self.assertEqual(invoke(self.api, name, {"do": "bytes"}).value, {"raw": True})

    def test_python_that_cannot_be_loaded(self):
        for handler, kind in [("nowhere.handler", "Runtime.ImportModuleError"), ("app.nothing", "Runtime.HandlerNotFound")]:
            answer = invoke(self.api, self.make("python", handler=handler))
            self.assertTrue(answer.failed)
            self.assertEqual(answer.value["errorType"], kind)

    def test_node(self):
        name = self.make("node")
        answer = invoke(self.api, name, {"a": 1}, log=True)
        self.assertFalse(answer.failed, answer.value)
        request = self.check_context(name, answer.value)
        self.assertEqual((answer.value["event"], answer.value["wrapped"]), ({"a": 1}, "yes"))
        self.assertEqual((answer.value["flags"], answer.value["fetch"]), (["--no-warnings"], "function"))
        self.assertEqual(answer.value["execution"], "AWS_Lambda_nodejs20.x")
        self.assertRegex(answer.log, rf"\t{request}\tWARN\ta warning")
        self.assertIn("loaded", answer.log)
        error = invoke(self.api, name, {"do": "raise"}).value
        self.assertEqual((error["errorType"], error["errorMessage"]), ("TypeError", "as asked"))
        self.assertEqual(invoke(self.api, name, {"do": "huge"}).value["errorType"], "Function.ResponseSizeTooLarge")
        self.assertEqual(invoke(self.api, name, {"do": "never"}).value["errorType"], "Runtime.NodeJsExit")
        self.assertEqual(invoke(self.api, name, {"do": "reject"}).value["errorType"], "Runtime.UnhandledPromiseRejection")
        self.assertIn("exit status 6", invoke(self.api, name, {"do": "exit"}).value["errorMessage"])
        self.assertEqual(invoke(self.api, name, {"a": 2}).value["event"], {"a": 2})
        self.assertEqual(invoke(self.api, self.make("node", handler="index.back"), {"a": 3}).value, {"a": 3})

    def test_node_that_cannot_be_loaded(self):
        for handler, kind in [("none.handler", "Runtime.ImportModuleError"), ("index.nothing", "Runtime.HandlerNotFound")]:
            answer = invoke(self.api, self.make("node", handler=handler))
            self.assertTrue(answer.failed)
            self.assertEqual(answer.value["errorType"], kind)

    def test_node_that_streams(self):
        name = self.make("node", handler="index.streams")
        for event in ({"parts": 3, "size": 10}, {"parts": 20, "size": 200_000}, {"parts": 2, "size": 10, "fail": True}):
            reply = self.api.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event))
            events = list(reply["EventStream"])
            got = b"".join(event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event)
            self.assertEqual(got, b"".join(bytes([97 + part]) * event["size"] for part in range(event["parts"])))
            end = events[-1]["InvokeComplete"]
            self.assertEqual(end.get("ErrorCode"), "Unhandled" if event.get("fail") else None)
            if event.get("fail"):
                self.assertEqual(json.loads(end["ErrorDetails"])["errorType"], "RangeError")

    def test_hooks_of_snapstart(self):
        name = self.make("python", handler="app.hooked", SnapStart={"ApplyOn": "PublishedVersions"})
        version = self.api.publish_version(FunctionName=name)["Version"]
        for _ in range(2):
            answer = self.api.invoke(FunctionName=name, Qualifier=version, Payload=b"{}")
            self.assertEqual(json.loads(answer["Payload"].read()), ["before 2", "before 1", "after 1"])

    def test_logs_in_json(self):
        for language in ("python", "node"):
            name = self.make(language, LoggingConfig={"LogFormat": "JSON"})
            log = invoke(self.api, name, {"a": 1}, log=True).log
            records = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
            self.assertIn("a warning", [record.get("message") for record in records], log)

    def test_a_wrapper_that_is_not_there(self):
        for language, wrapper, status in (("python", "/opt/nowhere", 127), ("node", "nowhere", 127), ("python", "/etc/passwd", 126)):
            error = invoke(self.api, self.make(language, wrapper=wrapper)).value
            self.assertEqual(error["errorType"], "Runtime.ExitError")
            self.assertRegex(error["errorMessage"], f"Error: Runtime exited with error: exit status {status}$")

    def test_extensions_beside_python_and_node(self):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.write(FIXTURES / "extensions/watcher", "extensions/watcher")
        layer = self.api.publish_layer_version(LayerName="watcher", Content={"ZipFile": content.getvalue()})
        logs = boto3.client(
            "logs", endpoint_url=self.node.endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
        )
        for language in ("python", "node"):
            name = self.make(language, wrapper=None, layer=layer["LayerVersionArn"])
            value = invoke(self.api, name, {"a": 1}).value
            request = self.check_context(name, value)
            told = {"logGroupName": f"/aws/lambda/{name}", "filterPattern": f'"watcher invoke {request}"'}

            def look():
                # What is printed between invocations is read with the next.
                invoke(self.api, name, {"a": 1})
                return logs.filter_log_events(**told)["events"]

            eventually(look, "what the extension was told")


if __name__ == "__main__":
    unittest.main()
