"""CloudWatch Logs' operations by AWS's Python client."""

import io
import os
import time
import unittest
import uuid
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import client, eventually

ENDPOINT = os.environ.get("LICHEN_ENDPOINT", "http://127.0.0.1:9000")
APP = """
def handler(event, context):
    print("seen", event.get("n"))
    return context.log_stream_name
"""


class Logs(unittest.TestCase):
    """Each test has a group of its own."""

    maxDiff = None

    def setUp(self):
        self.logs = boto3.client(
            "logs",
            endpoint_url=ENDPOINT,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}, read_timeout=60, parameter_validation=False),
        )
        self.group = f"/test/{uuid.uuid4().hex}"
        self.now = int(time.time() * 1000)

    def make(self, *streams):
        self.logs.create_log_group(logGroupName=self.group)
        self.addCleanup(self.forget)
        for stream in streams:
            self.logs.create_log_stream(logGroupName=self.group, logStreamName=stream)

    def forget(self):
        try:
            self.logs.delete_log_group(logGroupName=self.group)
        except self.logs.exceptions.ResourceNotFoundException:
            pass

    def put(self, stream, *messages, at=0):
        """Puts messages a millisecond apart, the first `at` milliseconds from the test's beginning."""
        events = [{"timestamp": self.now + at + n, "message": message} for n, message in enumerate(messages)]
        return self.logs.put_log_events(logGroupName=self.group, logStreamName=stream, logEvents=events)

    def refused(self, kind, text, act, **options):
        with self.assertRaises(ClientError) as caught:
            act(**options)
        error = caught.exception.response
        self.assertEqual((error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]), (kind, 400))
        self.assertIn(text, error["Error"]["Message"])

    def found(self, **options):
        pages = self.logs.get_paginator("filter_log_events").paginate(logGroupName=self.group, **options)
        return [event["message"] for page in pages for event in page["events"]]


class Groups(Logs):
    def test_life(self):
        self.make()
        self.refused(
            "ResourceAlreadyExistsException", "The specified log group already exists",
            self.logs.create_log_group, logGroupName=self.group,
        )
        [group] = self.logs.describe_log_groups(logGroupNamePrefix=self.group)["logGroups"]
        self.assertEqual(group["arn"], f"arn:aws:logs:us-east-1:000000000000:log-group:{self.group}:*")
        self.assertNotIn("retentionInDays", group)
        self.logs.put_retention_policy(logGroupName=self.group, retentionInDays=3)
        [group] = self.logs.describe_log_groups(logGroupNamePattern=self.group[8:].upper())["logGroups"]
        self.assertEqual(group["retentionInDays"], 3)
        self.logs.delete_retention_policy(logGroupName=self.group)
        [group] = self.logs.describe_log_groups(logGroupNamePrefix=self.group)["logGroups"]
        self.assertNotIn("retentionInDays", group)
        self.logs.delete_log_group(logGroupName=self.group)
        self.refused(
            "ResourceNotFoundException", "The specified log group does not exist.",
            self.logs.delete_log_group, logGroupName=self.group,
        )

    def test_lists_come_in_pages(self):
        names = [f"{self.group}/{n}" for n in range(5)]
        for name in names:
            self.logs.create_log_group(logGroupName=name)
            self.addCleanup(self.logs.delete_log_group, logGroupName=name)
        pages = self.logs.get_paginator("describe_log_groups").paginate(
            logGroupNamePrefix=self.group, PaginationConfig={"PageSize": 2}
        )
        self.assertEqual([[g["logGroupName"] for g in page["logGroups"]] for page in pages], [names[:2], names[2:4], names[4:]])

    def test_refusals(self):
        self.refused(
            "InvalidParameterException", "Value 'a b' at 'logGroupName' failed to satisfy constraint: Member must satisfy "
            "regular expression pattern: [\\.\\-_/#A-Za-z0-9]+", self.logs.create_log_group, logGroupName="a b",
        )
        self.refused(
            "InvalidParameterException", "Value null at 'logGroupName' failed", self.logs.create_log_group,
        )
        self.make()
        self.refused(
            "InvalidParameterException", "Value '2' at 'retentionInDays' failed to satisfy constraint",
            self.logs.put_retention_policy, logGroupName=self.group, retentionInDays=2,
        )
        # What is a line of a file must not be made up by who names a stream.
        self.refused(
            "InvalidParameterException", "at 'logStreamName' failed to satisfy constraint: Member must satisfy regular",
            self.logs.create_log_stream, logGroupName=self.group, logStreamName="a\n1\tb\tr\tforged",
        )
        self.refused("UnknownOperationException", "StartQuery", self.logs.start_query, logGroupName=self.group)


class Streams(Logs):
    def test_life_and_order(self):
        self.make("b", "a", "c")
        self.refused(
            "ResourceAlreadyExistsException", "The specified log stream already exists",
            self.logs.create_log_stream, logGroupName=self.group, logStreamName="a",
        )
        self.put("a", "late", at=10)
        self.put("b", "early")
        names = lambda **options: [
            stream["logStreamName"]
            for page in self.logs.get_paginator("describe_log_streams").paginate(
                logGroupName=self.group, PaginationConfig={"PageSize": 2}, **options
            )
            for stream in page["logStreams"]
        ]
        self.assertEqual(names(), ["a", "b", "c"])
        self.assertEqual(names(descending=True), ["c", "b", "a"])
        self.assertEqual(names(orderBy="LastEventTime", descending=True), ["a", "b", "c"])
        self.assertEqual(names(logStreamNamePrefix="b"), ["b"])
        [stream] = self.logs.describe_log_streams(logGroupName=self.group, logStreamNamePrefix="a")["logStreams"]
        self.assertEqual((stream["firstEventTimestamp"], stream["lastEventTimestamp"]), (self.now + 10, self.now + 10))
        self.refused(
            "InvalidParameterException", "Cannot order by LastEventTime with a logStreamNamePrefix.",
            self.logs.describe_log_streams, logGroupName=self.group, orderBy="LastEventTime", logStreamNamePrefix="a",
        )
        self.logs.delete_log_stream(logGroupName=self.group, logStreamName="a")
        self.assertEqual(names(), ["b", "c"])
        self.assertEqual(self.found(), ["early"])
        self.refused(
            "ResourceNotFoundException", "The specified log stream does not exist.",
            self.logs.delete_log_stream, logGroupName=self.group, logStreamName="a",
        )


class Events(Logs):
    def test_forwards_and_backwards(self):
        self.make("s")
        self.put("s", *map(str, range(5)))
        get = lambda **options: self.logs.get_log_events(logGroupName=self.group, logStreamName="s", limit=2, **options)
        texts = lambda page: [event["message"] for event in page["events"]]
        page, seen = get(startFromHead=True), []
        while texts(page):
            seen.append(texts(page))
            token = page["nextForwardToken"]
            page = get(nextToken=token)
        self.assertEqual(seen, [["0", "1"], ["2", "3"], ["4"]])
        self.assertEqual(page["nextForwardToken"], token, "the end is where the token stays the same")
        self.put("s", "5", at=5)
        self.assertEqual(texts(get(nextToken=token)), ["5"])
        page, seen = get(), []
        while texts(page):
            seen.append(texts(page))
            token = page["nextBackwardToken"]
            page = get(nextToken=token)
        self.assertEqual(seen, [["4", "5"], ["2", "3"], ["0", "1"]])
        self.assertEqual(page["nextBackwardToken"], token)
        self.assertEqual(texts(get(startTime=self.now + 1, endTime=self.now + 3, startFromHead=True)), ["1", "2"])
        self.refused("InvalidParameterException", "The specified nextToken is invalid.", get, nextToken="x")

    def test_filters(self):
        self.make("a/1", "a/2", "b")
        self.put("a/1", "ERROR: disk full", "all is well")
        self.put("a/2", "WARN: disk slow", "two\nlines\\n of ERROR", at=2)
        self.put("b", "elsewhere", at=1)
        self.assertEqual(
            self.found(), ["ERROR: disk full", "all is well", "elsewhere", "WARN: disk slow", "two\nlines\\n of ERROR"]
        )
        self.assertEqual(len(self.found(PaginationConfig={"PageSize": 1})), 5)
        self.assertEqual(self.found(logStreamNamePrefix="a/", filterPattern="disk"), ["ERROR: disk full", "WARN: disk slow"])
        self.assertEqual(self.found(logStreamNames=["b"]), ["elsewhere"])
        self.assertEqual(self.found(filterPattern='"disk full"'), ["ERROR: disk full"])
        self.assertEqual(self.found(filterPattern="?well ?WARN"), ["all is well", "WARN: disk slow"])
        self.assertEqual(self.found(filterPattern="ERROR -disk"), ["two\nlines\\n of ERROR"])
        self.assertEqual(self.found(startTime=self.now + 1, endTime=self.now + 2), ["all is well", "elsewhere", "WARN: disk slow"])
        for pattern, text in [("a-b", "Invalid character(s) in term 'a-b'"), ("[x, y]", "terms and JSON only"), ("{ $.x 1 }", "does not go on")]:
            self.refused(
                "InvalidParameterException", text,
                self.logs.filter_log_events, logGroupName=self.group, filterPattern=pattern,
            )
        self.refused(
            "ResourceNotFoundException", "The specified log stream does not exist.",
            self.logs.filter_log_events, logGroupName=self.group, logStreamNames=["b", "none"],
        )

    def test_what_is_not_taken(self):
        self.make("s")
        day = 86_400_000
        answer = self.put("s", "from another time", at=-15 * day)
        self.assertEqual(answer["rejectedLogEventsInfo"], {"tooOldLogEventEndIndex": 1})
        answer = self.put("s", "to come", at=3 * 3_600_000)
        self.assertEqual(answer["rejectedLogEventsInfo"], {"tooNewLogEventStartIndex": 0})
        self.put("s", "two days old", at=-2 * day)
        self.assertEqual(self.found(), ["two days old"])
        self.logs.put_retention_policy(logGroupName=self.group, retentionInDays=1)
        self.assertEqual(self.found(), [], "it is older than what the group keeps")
        events = [{"timestamp": self.now + 1, "message": "b"}, {"timestamp": self.now, "message": "a"}]
        self.refused(
            "InvalidParameterException", "must be in chronological order",
            self.logs.put_log_events, logGroupName=self.group, logStreamName="s", logEvents=events,
        )
        self.refused(
            "ResourceNotFoundException", "The specified log stream does not exist.",
            self.logs.put_log_events, logGroupName=self.group, logStreamName="none", logEvents=events[1:],
        )
        self.refused(
            "ResourceNotFoundException", "The specified log group does not exist.",
            self.logs.put_log_events, logGroupName=self.group + "x", logStreamName="s", logEvents=events[1:],
        )


class Functions(Logs):
    def test_what_a_function_prints_is_tailed(self):
        api, name = client(ENDPOINT), f"logs-{uuid.uuid4().hex[:8]}"
        self.group = f"/aws/lambda/{name}"
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr(zipfile.ZipInfo("app.py"), APP)
        api.create_function(
            FunctionName=name, Runtime="python3.11", Handler="app.handler", Code={"ZipFile": code.getvalue()},
            Role="arn:aws:iam::000000000000:role/test",
        )
        self.addCleanup(api.delete_function, FunctionName=name)
        self.addCleanup(self.forget)
        stream = api.invoke(FunctionName=name, Payload='{"n": 1}')["Payload"].read().decode().strip('"')
        seen = eventually(lambda: self.found(filterPattern="seen", startTime=self.now - 1000), "the function's line")
        self.assertEqual(seen, ["seen 1"])
        [listed] = self.logs.describe_log_streams(logGroupName=self.group, orderBy="LastEventTime", descending=True)["logStreams"]
        self.assertEqual(listed["logStreamName"], stream)
        events = self.logs.get_log_events(logGroupName=self.group, logStreamName=stream, startFromHead=True)["events"]
        self.assertEqual([event["message"].split()[0] for event in events if event["message"][0] in "SERs"][:2], ["START", "seen"])
        # As `aws logs tail` goes on: from the last time on, without what it has seen.
        last = self.logs.filter_log_events(logGroupName=self.group, interleaved=True)["events"]
        api.invoke(FunctionName=name, Payload='{"n": 2}')
        known = {event["eventId"] for event in last}
        tail = lambda: [
            event["message"]
            for event in self.logs.filter_log_events(
                logGroupName=self.group, interleaved=True, startTime=last[-1]["timestamp"]
            )["events"]
            if event["eventId"] not in known and "seen" in event["message"]
        ]
        self.assertEqual(eventually(tail, "the second line"), ["seen 2"])
        self.logs.delete_log_group(logGroupName=self.group)
        self.refused(
            "ResourceNotFoundException", "The specified log group does not exist.",
            self.logs.filter_log_events, logGroupName=self.group,
        )


if __name__ == "__main__":
    unittest.main()
