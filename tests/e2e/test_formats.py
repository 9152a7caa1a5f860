"""Logs in the format that a function asks for: text, or JSON with levels."""

import base64
import json
import re
import unittest

import boto3
from botocore.exceptions import ClientError

from harness import Node
from test_boto3 import ROLE, package

PYTHON = """
import logging

log = logging.getLogger()
logging.getLogger("early").warning("at import")

def handler(event, context):
    log.debug("fine")
    log.info("said %s", "so", extra={"order": 7})
    logging.getLogger("module").warning({"a": [1, 2]})
    print("printed")
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("divided")
    if event.get("fail"):
        raise KeyError("gone")
"""
NODE = """
exports.handler = async (event) => {
  console.debug('fine');
  console.log('said %s', 'so');
  console.info({ a: [1, 2] });
  console.warn('beside', new TypeError('wrong'));
  process.stdout.write('printed\\n');
  if (event.fail) throw new RangeError('gone');
};
"""
STAMP = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$"


class Formats(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node()
        cls.addClassCleanup(cls.node.stop)
        cls.api = cls.node.client()

    def create(self, name, **logging):
        is_node = name.startswith("node")
        made = self.api.create_function(
            FunctionName=name,
            Runtime="nodejs20.x" if is_node else "python3.11",
            Role=ROLE,
            Handler="app.handler",
            Code={"ZipFile": package(NODE, "app.js") if is_node else package(PYTHON)},
            LoggingConfig=logging,
            Timeout=10,
        )
        self.addCleanup(self.api.delete_function, FunctionName=name)
        return made

    def lines(self, name, **event):
        """What an invocation has logged: its request's id, records, and other lines."""
        answer = self.api.invoke(FunctionName=name, Payload=json.dumps(event), LogType="Tail")
        text = base64.b64decode(answer["LogResult"]).decode()
        records, others = [], []
        for line in filter(None, text.split("\n")):
            if line.startswith("{"):
                records.append(json.loads(line))
            else:
                others.append(line)
        return answer["ResponseMetadata"]["RequestId"], records, others

    def kept(self, name):
        logs = boto3.client(
            "logs", endpoint_url=self.node.endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        return [event["message"] for event in logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]]

    def of_platform(self, records):
        return {record["type"].removeprefix("platform."): record for record in records if "type" in record}

    def of_function(self, records):
        found = [record for record in records if "type" not in record]
        for record in found:
            self.assertRegex(record.pop("timestamp"), STAMP)
        return found

    def test_python(self):
        made = self.create("python", LogFormat="JSON")
        expected = {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", "LogGroup": "/aws/lambda/python"}
        self.assertEqual(made["LoggingConfig"], expected)
        request, records, others = self.lines("python")
        self.assertEqual(others, ["printed"])
        platform = self.of_platform(records)
        self.assertEqual(set(platform), {"start", "report"}, "the tail begins where the invocation does")
        [begun] = [json.loads(line) for line in self.kept("python") if "platform.initStart" in line]
        self.assertEqual(begun["record"]["runtimeVersion"], "python:3.11")
        self.assertEqual(platform["start"]["record"], {"requestId": request, "version": "$LATEST"})
        report = platform["report"]["record"]
        self.assertEqual((report["requestId"], report["status"]), (request, "success"))
        self.assertEqual(
            set(report["metrics"]), {"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"}
        )
        self.assertGreater(report["metrics"]["initDurationMs"], 0)
        self.assertRegex(platform["report"]["time"], STAMP)
        told = [record for record in self.of_function(records) if record.get("logger") != "early"]
        self.assertEqual(told[0], {"level": "INFO", "message": "said so", "logger": "root", "requestId": request, "order": 7})
        self.assertEqual(told[1], {"level": "WARNING", "message": {"a": [1, 2]}, "logger": "module", "requestId": request})
        self.assertEqual((told[2]["errorType"], told[2]["errorMessage"]), ("ZeroDivisionError", "division by zero"))
        self.assertIn("1 / 0", told[2]["stackTrace"][0])
        self.assertRegex(told[2]["location"], r"/var/task/app\.py:handler:\d+")
        self.assertEqual(len(told), 3)

    def test_records_are_found_by_what_they_say(self):
        self.create("python-found", LogFormat="JSON")
        request, _, _ = self.lines("python-found")
        logs = boto3.client(
            "logs", endpoint_url=self.node.endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )

        def found(pattern):
            events = logs.filter_log_events(logGroupName="/aws/lambda/python-found", filterPattern=pattern)["events"]
            return [json.loads(event["message"]) for event in events]

        [error] = found('{ $.level = "ERROR" && $.errorType = "Zero*" }')
        self.assertEqual(error["requestId"], request)
        [report] = found(f'{{ $.type = "platform.report" && $.record.requestId = "{request}" && $.record.metrics.durationMs >= 0 }}')
        self.assertEqual(report["record"]["status"], "success")
        self.assertEqual(found("{ $.level = FATAL }"), [])

    def test_python_that_fails(self):
        self.create("python-fails", LogFormat="JSON", SystemLogLevel="DEBUG", ApplicationLogLevel="ERROR")
        request, records, _ = self.lines("python-fails", fail=True)
        told = self.of_function(records)
        self.assertEqual([record["level"] for record in told], ["ERROR", "ERROR"])
        self.assertEqual((told[1]["errorType"], told[1]["requestId"]), ("KeyError", request))
        platform = self.of_platform(records)
        self.assertEqual(set(platform), {"start", "runtimeDone", "report"})
        self.assertEqual(platform["report"]["record"]["status"], "error")

    def test_node(self):
        self.create("node", LogFormat="JSON", ApplicationLogLevel="TRACE", SystemLogLevel="WARN")
        request, records, others = self.lines("node")
        self.assertEqual((others, self.of_platform(records)), (["printed"], {}))
        told = self.of_function(records)
        self.assertEqual(told[0], {"level": "DEBUG", "requestId": request, "message": "fine"})
        self.assertEqual(told[1], {"level": "INFO", "requestId": request, "message": "said so"})
        self.assertEqual(told[2], {"level": "INFO", "requestId": request, "message": {"a": [1, 2]}})
        self.assertEqual((told[3]["level"], told[3]["errorType"], told[3]["errorMessage"]), ("WARN", "TypeError", "wrong"))
        self.assertTrue(told[3]["message"].startswith("beside TypeError: wrong"))
        request, records, _ = self.lines("node", fail=True)
        message = self.of_function(records)[-1]["message"]
        self.assertEqual((message["errorType"], message["errorMessage"]), ("RangeError", "gone"))
        self.assertIn("app.js", "".join(message["stackTrace"]))
        self.assertEqual(self.of_platform(records)["report"]["record"]["status"], "error")

    def test_levels_of_nodes_records(self):
        self.create("node-quiet", LogFormat="JSON", ApplicationLogLevel="WARN")
        _, records, _ = self.lines("node-quiet")
        self.assertEqual([record["level"] for record in self.of_function(records)], ["WARN"])

    def test_text(self):
        for name in ("python-text", "node-text"):
            made = self.create(name, LogFormat="Text")
            self.assertEqual(made["LoggingConfig"], {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"})
            request, records, others = self.lines(name)
            self.assertEqual(records, [])
            text = "\n".join(others)
            self.assertRegex(text, rf"START RequestId: {request} Version: \$LATEST")
            self.assertRegex(text, rf"REPORT RequestId: {request}\tDuration: [\d.]+ ms\t.*\tInit Duration: [\d.]+ ms\t")

    def test_what_cannot_be_loaded(self):
        broken = {"ZipFile": package("import no_such_module\n")}
        for name, logging in (("broken-text", {}), ("broken-json", {"LogFormat": "JSON", "SystemLogLevel": "WARN"})):
            self.create(name, **logging)
            self.api.update_function_code(FunctionName=name, **broken)
            _, records, others = self.lines(name)
            if logging:
                platform = self.of_platform(records)
                self.assertEqual(set(platform), {"initReport", "runtimeDone", "report"})
                for record in platform.values():
                    self.assertEqual(record["record"]["errorType"], "Runtime.ImportModuleError")
            else:
                kind = r"\tStatus: error\tError Type: Runtime.ImportModuleError\t"
                text = "\n".join(others)
                self.assertRegex(text, rf"INIT_REPORT Init Duration: [\d.]+ ms\tPhase: init{kind}")
                self.assertRegex(text, rf"REPORT RequestId: .*Max Memory Used: \d+ MB{kind}")

    def test_a_change_of_format(self):
        self.create("python-changes")
        self.assertEqual(self.lines("python-changes")[1], [])
        update = self.api.update_function_configuration
        made = update(FunctionName="python-changes", LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "WARN"})
        self.assertEqual(made["LoggingConfig"]["ApplicationLogLevel"], "INFO")
        _, records, _ = self.lines("python-changes")
        self.assertEqual({record["level"] for record in self.of_function(records)}, {"INFO", "WARNING", "ERROR"})
        made = update(FunctionName="python-changes", LoggingConfig={"LogFormat": "Text"})
        self.assertNotIn("ApplicationLogLevel", made["LoggingConfig"])
        with self.assertRaises(ClientError) as caught:
            update(FunctionName="python-changes", LoggingConfig={"ApplicationLogLevel": "DEBUG"})
        error = caught.exception.response["Error"]
        self.assertEqual(error["Code"], "InvalidParameterValueException")
        self.assertTrue(error["Message"].startswith("LogLevel is not supported when LogFormat is set to"))

    def test_what_is_restored(self):
        self.create("python-snap")
        self.api.update_function_configuration(FunctionName="python-snap", SnapStart={"ApplyOn": "PublishedVersions"})
        version = self.api.publish_version(FunctionName="python-snap")
        self.assertEqual(version["SnapStart"], {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"})
        answer = self.api.invoke(FunctionName="python-snap", Qualifier=version["Version"], LogType="Tail")
        text = base64.b64decode(answer["LogResult"]).decode()
        self.assertTrue(any("RESTORE_START Runtime Version: python:3.11" in line for line in self.kept("python-snap")))
        self.assertTrue(re.search(r"\tRestore Duration: [\d.]+ ms\tBilled Restore Duration: \d+ ms\t", text), text)
        self.assertNotIn("Init Duration", text)
        latest = self.api.get_function_configuration(FunctionName="python-snap")["SnapStart"]
        self.assertEqual(latest, {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"})


if __name__ == "__main__":
    unittest.main()
