"""Extensions: programs of a layer's /extensions beside the function, told of its invocations and its end."""

import io
import json
import re
import tempfile
import unittest
import zipfile

import boto3
from harness import FIXTURES, Node, deploy, eventually, invoke


def publish(api):
    """The layer with the extension."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.write(FIXTURES / "extensions/watcher", "extensions/watcher")
    return api.publish_layer_version(LayerName="watcher", Content={"ZipFile": content.getvalue()})["LayerVersionArn"]


def logs_of(node):
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("logs", endpoint_url=node.endpoint, region_name="us-east-1", **keys)


class Extensions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = cls.enterClassContext(Node())
        cls.api = cls.node.client()
        cls.logs = logs_of(cls.node)
        cls.layer = publish(cls.api)

    def make(self, mode="", folder="provided", **settings):
        defaults = {"Runtime": "provided.al2023", "Handler": "some.handler"} if folder == "provided" else {}
        variables = {"WATCHER": mode} if mode else {}
        return deploy(
            self.api, folder, Layers=[self.layer], Environment={"Variables": variables}, **{**defaults, **settings}
        )

    def lines(self, name):
        """What the extension has said."""
        found = self.logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
        return [event["message"].strip() for event in found if event["message"].startswith("watcher ")]

    def wait_for(self, name, line, poke=False):
        """Waits for a line. What is printed between invocations is read with the next: `poke` makes one."""

        def look():
            if poke:
                invoke(self.api, name)
            return [found for found in self.lines(name) if re.search(line, found)]

        return eventually(look, f"{line} in the log")

    def test_it_hears_of_invocations_and_of_the_end(self):
        name = self.make()
        for value in (1, 2):
            answer = invoke(self.api, name, {"value": value}, log=True)
            self.assertEqual(answer.value, value)
            request = re.search("RequestId: ([0-9a-f-]+)", answer.log).group(1)
            self.wait_for(name, f"^watcher invoke {request} True$", poke=True)
        self.assertIn("watcher registered 200 some.handler False", self.lines(name))
        self.api.update_function_configuration(FunctionName=name, Description="new")
        invoke(self.api, name)
        self.wait_for(name, "^watcher shutdown spindown True$")

    def test_it_hears_of_a_time_out(self):
        name = self.make(Timeout=1)
        answer = invoke(self.api, name, {"do": "sleep", "seconds": 20})
        self.assertEqual(answer.value["errorType"], "Sandbox.Timedout")
        self.wait_for(name, "^watcher shutdown timeout True$")

    def test_it_hears_of_a_failure(self):
        name = self.make()
        answer = invoke(self.api, name, {"do": "exit", "status": 9})
        self.assertIn("exit status 9", answer.value["errorMessage"])
        self.wait_for(name, "^watcher shutdown failure True$")

    def test_the_next_invocation_waits_for_it(self):
        name = self.make("slow")
        for value in (1, 2, 3):
            self.assertEqual(invoke(self.api, name, {"value": value}).value, value)
        order = [line.split()[1] for line in self.lines(name) if line.split()[1] in ("invoke", "done")]
        for told, done in zip(order[::2], order[1::2]):
            self.assertEqual((told, done), ("invoke", "done"), order)

    def test_it_hears_of_the_end_of_the_node(self):
        with tempfile.TemporaryDirectory(prefix="lichen-e2e-") as folder:
            with Node(folder=folder) as node:
                api = node.client()
                name = deploy(api, "provided", Runtime="provided.al2023", Handler="x", Layers=[publish(api)])
                invoke(api, name)
            with Node(folder=folder) as node:
                found = logs_of(node).filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
        self.assertIn("watcher shutdown spindown True", [event["message"].strip() for event in found])

    def test_what_is_refused(self):
        name = self.make("wrong")
        self.assertEqual(invoke(self.api, name, {"value": 1}).value, 1)
        refused = next(line for line in self.lines(name) if line.startswith("watcher refused"))
        self.assertEqual(
            refused.split()[2:],
            [
                "403:Extension.InvalidExtensionState",
                "403:Extension.InvalidExtensionName",
                "403:InvalidRequestFormat",
                "403:Extension.InvalidEventType",
                "403:Extension.InvalidEventType",
                "403:Extension.MissingExtensionIdentifier",
                "403:Extension.InvalidExtensionIdentifier",
                "403:Extension.UnknownExtensionIdentifier",
                "403:Extension.MissingHeader",
            ],
        )

    def records(self, name, kind):
        """The records of this kind that the extension was told."""
        mark = f"watcher told {kind} "
        told = [line.removeprefix(mark) for line in self.lines(name) if line.startswith(mark)]
        return [json.loads(record.rpartition(" ")[0]) for record in told]

    def test_it_is_told_of_the_platform_and_of_what_is_printed(self):
        name = self.make("telemetry", Timeout=2)
        answer = invoke(self.api, name, {"do": "print", "text": "words\nand more"}, log=True)
        request = re.search("RequestId: ([0-9a-f-]+)", answer.log).group(1)
        self.assertEqual(answer.log.count("words\nand more\n"), 1, "the log has it once, and before the answer")
        invoke(self.api, name, {"do": "error", "error": {"errorMessage": "no", "errorType": "My.Kind"}})
        self.wait_for(name, "^watcher told platform.report .*error", poke=True)
        self.assertIn('watcher subscribed 200:"OK"', self.lines(name))
        self.assertIn("watcher refused 400 400 400 400 400", self.lines(name))
        self.assertEqual(self.records(name, "function")[:2], ["words\n", "and more\n"])
        # A stem has its own.
        begun, ready, init = (
            self.records(name, f"platform.{kind}")[0] for kind in ("initStart", "initRuntimeDone", "initReport")
        )
        self.assertEqual((begun["functionName"], begun["phase"], ready["status"]), (name, "init", "success"))
        self.assertGreater(init["metrics"]["durationMs"], 0)
        extension = {"name": "watcher", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
        self.assertEqual(self.records(name, "platform.extension")[0], extension)
        started = self.records(name, "platform.start")[0]
        self.assertEqual((started["requestId"], started["version"]), (request, "$LATEST"))
        done, failed = self.records(name, "platform.runtimeDone")[:2]
        self.assertEqual((done["requestId"], done["status"], done["metrics"]["producedBytes"]), (request, "success", 4))
        self.assertEqual((failed["status"], failed["errorType"]), ("error", "My.Kind"))
        report = self.records(name, "platform.report")[0]
        self.assertEqual((report["requestId"], report["metrics"]["memorySizeMB"]), (request, 256))
        self.assertGreater(report["metrics"]["maxMemoryUsedMB"], 1)
        self.assertIsInstance(report["metrics"]["billedDurationMs"], int)
        self.assertIn("initDurationMs", report["metrics"])
        self.assertFalse(self.records(name, "platform.end"), "which is of the Logs API")
        invoke(self.api, name, {"do": "sleep", "seconds": 20})
        self.wait_for(name, '^watcher told platform.runtimeDone .*"timeout"')

    def test_the_logs_api(self):
        name = self.make("telemetry-logs")
        invoke(self.api, name, {"do": "print", "text": "words"})
        self.wait_for(name, "^watcher told platform.report ", poke=True)
        self.assertEqual(self.records(name, "function")[:1], ["words\n"])
        self.assertTrue(self.records(name, "platform.end"))
        self.assertFalse(self.records(name, "platform.initStart"))
        self.assertTrue(self.records(name, "platform.logsSubscription"))

    def test_one_that_fails_fails_the_function(self):
        for mode, kind, why in [
            ("exit", "Extension.Crash", "exit status 3"),
            ("error", "Extension.InitError", "exit status 1"),
            ("crash", "Extension.Crash", "exit status 4"),
        ]:
            answer = invoke(self.api, self.make(mode), {"do": "sleep", "seconds": 2})
            self.assertTrue(answer.failed, answer.value)
            self.assertEqual(answer.value["errorType"], kind)
            self.assertRegex(answer.value["errorMessage"], f"^RequestId: [0-9a-f-]{{36}} Error: {why}$")

    def test_a_runtime_that_is_an_extension_is_told_to_end(self):
        name = deploy(
            self.api, "provided", Runtime="provided.al2023", Handler="x", Environment={"Variables": {"BEGIN": "extension"}}
        )
        self.assertEqual(invoke(self.api, name, {"value": 1}).value, 1)
        self.api.update_function_configuration(FunctionName=name, Description="new")
        invoke(self.api, name)
        told = {"logGroupName": f"/aws/lambda/{name}", "filterPattern": '"told to end"'}
        eventually(lambda: self.logs.filter_log_events(**told)["events"], "its last words")

    def test_one_that_cannot_be_run(self):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("extensions/broken", "no program")
        layer = self.api.publish_layer_version(LayerName="broken", Content={"ZipFile": content.getvalue()})
        name = deploy(
            self.api, "provided", Runtime="provided.al2023", Handler="x", Layers=[layer["LayerVersionArn"]]
        )
        error = invoke(self.api, name).value
        self.assertEqual(error["errorType"], "Extension.LaunchError")
        self.assertRegex(error["errorMessage"], "Error: fork/exec /opt/extensions/broken: permission denied$")


if __name__ == "__main__":
    unittest.main()
