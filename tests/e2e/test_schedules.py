"""Schedules: EventBridge's operations on rules, and rules that fire once, whatever is killed."""

import json
import os
import signal
import sqlite3
import tempfile
import time
import unittest
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from harness import Node, deploy, eventually
from test_async import get, printed


def events(node):
    return boto3.client(
        "events",
        endpoint_url=node.endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 0}),
    )


def arn_of(api, name):
    return api.get_function_configuration(FunctionName=name)["FunctionArn"]


class Operations(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = cls.enterClassContext(Node())
        cls.api, cls.events = cls.node.client(), events(cls.node)

    def refusal(self, call, **arguments):
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        error = caught.exception.response
        return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"], error["Error"]["Message"]

    def test_the_life_of_a_rule(self):
        name = f"r-{uuid.uuid4().hex[:8]}"
        arn = f"arn:aws:events:us-east-1:000000000000:rule/{name}"
        made = self.events.put_rule(Name=name, ScheduleExpression="rate(5 minutes)", Description="d", Tags=[{"Key": "a", "Value": "b"}])
        self.assertEqual(made["RuleArn"], arn)
        self.assertEqual(self.events.list_tags_for_resource(ResourceARN=arn)["Tags"], [{"Key": "a", "Value": "b"}])
        self.events.tag_resource(ResourceARN=arn, Tags=[{"Key": "c", "Value": "d"}])
        self.events.untag_resource(ResourceARN=arn, TagKeys=["a"])
        self.assertEqual(self.events.list_tags_for_resource(ResourceARN=arn)["Tags"], [{"Key": "c", "Value": "d"}])
        rule = {"Name": name, "Arn": arn, "State": "ENABLED", "Description": "d", "ScheduleExpression": "rate(5 minutes)", "EventBusName": "default"}
        strip = lambda reply: {key: value for key, value in reply.items() if key != "ResponseMetadata"}
        self.assertEqual(strip(self.events.describe_rule(Name=name)), {**rule, "CreatedBy": "000000000000"})
        self.assertEqual(self.events.list_rules(NamePrefix=name)["Rules"], [rule])
        self.events.disable_rule(Name=name)
        self.assertEqual(self.events.describe_rule(Name=name)["State"], "DISABLED")
        self.events.enable_rule(Name=name)
        function = arn_of(self.api, deploy(self.api, "teller"))
        targets = [{"Id": "one", "Arn": function}, {"Id": "two", "Arn": function, "Input": '{"a": 1}', "RetryPolicy": {"MaximumRetryAttempts": 1}}]
        put = self.events.put_targets(Rule=name, Targets=[*targets, {"Id": "three", "Arn": function, "Input": "{"}])
        self.assertEqual((put["FailedEntryCount"], put["FailedEntries"][0]["TargetId"]), (1, "three"))
        self.assertEqual(self.events.list_targets_by_rule(Rule=name)["Targets"], targets)
        self.assertIn(name, self.events.list_rule_names_by_target(TargetArn=function)["RuleNames"])
        told = self.refusal(self.events.delete_rule, Name=name)
        self.assertEqual(told, (400, "ValidationException", "Rule can't be deleted since it has targets."))
        removed = self.events.remove_targets(Rule=name, Ids=["one", "two", "zero"])
        self.assertEqual((removed["FailedEntryCount"], removed["FailedEntries"][0]["ErrorCode"]), (1, "ResourceNotFoundException"))
        self.events.delete_rule(Name=name)
        told = self.refusal(self.events.describe_rule, Name=name)
        self.assertEqual(told, (400, "ResourceNotFoundException", f"Rule {name} does not exist on EventBus default."))
        self.events.delete_rule(Name=name)

    def test_lists_come_in_pages(self):
        prefix = f"p-{uuid.uuid4().hex[:8]}-"
        names = [f"{prefix}{number}" for number in range(5)]
        for name in names:
            self.events.put_rule(Name=name, ScheduleExpression="cron(0 12 * * ? *)")
        pages = self.events.get_paginator("list_rules").paginate(NamePrefix=prefix, PaginationConfig={"PageSize": 2})
        pages = [[rule["Name"] for rule in page["Rules"]] for page in pages]
        self.assertEqual(pages, [names[:2], names[2:4], names[4:]])

    def test_refusals(self):
        put = self.events.put_rule
        for expression in ("rate(1 minutes)", "cron(* * * * * *)", "nonsense"):
            told = self.refusal(put, Name="x", ScheduleExpression=expression)
            self.assertEqual(told, (400, "ValidationException", "Parameter ScheduleExpression is not valid."))
        told = self.refusal(put, Name="x")
        self.assertEqual(told[2], "Parameter(s) EventPattern or ScheduleExpression must be specified.")
        self.assertIn("fires rules at times only", self.refusal(put, Name="x", EventPattern="{}")[2])
        self.assertEqual(self.refusal(put, Name="x", ScheduleExpression="rate(1 day)", EventBusName="other")[1], "ResourceNotFoundException")
        self.assertIn("'name' failed to satisfy constraint", self.refusal(put, Name="a b", ScheduleExpression="rate(1 day)")[2])
        self.assertEqual(self.refusal(self.events.put_events, Entries=[{"Source": "s", "DetailType": "t", "Detail": "{}"}])[1], "UnknownOperationException")
        targets = [{"Id": str(number), "Arn": "arn:aws:lambda:us-east-1:000000000000:function:f"} for number in range(6)]
        self.events.put_rule(Name="full", ScheduleExpression="rate(1 day)")
        self.assertEqual(self.refusal(self.events.put_targets, Rule="full", Targets=targets)[1], "LimitExceededException")


class Firing(unittest.TestCase):
    """Rules have whole minutes. The clock is not turned here; when a rule began is, on disk, between two runs of a node."""

    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix="lichen-e2e-"))
        self.node = None
        self.addCleanup(lambda: self.node and self.node.__exit__())

    def start(self):
        self.node = Node(folder=self.folder)
        return self.node.client()

    def rewrite(self, **columns):
        """Ends the node, and changes its rules on disk."""
        self.node.__exit__()
        self.node = None
        with sqlite3.connect(f"{self.folder}/rules.db") as database:
            for column, value in columns.items():
                database.execute(f"UPDATE rules SET {column} = ?", (value,))
        database.close()

    def told(self, name, count):
        return eventually(lambda: len(lines := printed(self.node, name)) >= count and lines, f"{count} events")

    def test_a_rule_fires_in_its_time_and_once(self):
        api = self.start()
        name = deploy(api, "teller")
        client = events(self.node)
        client.put_rule(Name="tick", ScheduleExpression="rate(1 minute)")
        function = arn_of(api, name)
        client.put_targets(Rule="tick", Targets=[{"Id": "whole", "Arn": function}, {"Id": "own", "Arn": function, "Input": '{"own": true}'}])
        self.assertEqual(printed(self.node, name), [])
        # A minute is over in two seconds.
        begun = int(time.time() * 1000) - 58_000
        self.rewrite(begun_ms=begun, fired_ms=begun)
        self.start()
        self.assertEqual(printed(self.node, name), [])
        lines = self.told(name, 2)
        self.assertGreaterEqual(int(time.time() * 1000), begun + 60_000)
        by_kind = {"own" in line["event"]: line["event"] for line in lines}
        self.assertEqual(by_kind[True], {"own": True})
        event = by_kind[False]
        uuid.UUID(event.pop("id"))
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((begun + 60_000) // 1000))
        self.assertEqual(
            event,
            {
                "version": "0",
                "detail-type": "Scheduled Event",
                "source": "aws.events",
                "account": "000000000000",
                "time": moment,
                "region": "us-east-1",
                "resources": ["arn:aws:events:us-east-1:000000000000:rule/tick"],
                "detail": {},
            },
        )
        # As if the node had been killed between firing and noting it: the events are known, and do not come again.
        eventually(lambda: get(self.node, "/v1/queue")["depth"] == 0, "both are done")
        self.rewrite(fired_ms=begun)
        api = self.start()
        # What is accepted after it runs after it.
        api.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"last": true}')
        lines = self.told(name, 3)
        self.assertEqual([line["event"].get("last") for line in lines], [None, None, True])

    def test_what_was_missed_for_long_is_passed_over_and_kills_double_nothing(self):
        api = self.start()
        name = deploy(api, "teller")
        client = events(self.node)
        for rule, expression in (("often", "rate(1 minute)"), ("rare", "rate(1 hour)")):
            client.put_rule(Name=rule, ScheduleExpression=expression)
            client.put_targets(Rule=rule, Targets=[{"Id": "t", "Arn": arn_of(api, name), "Input": json.dumps({"rule": rule})}])
        # The hour's last moment is half an hour ago, the minute's less than one.
        begun = int(time.time() * 1000) - 90 * 60_000 - 5_000
        self.rewrite(begun_ms=begun, fired_ms=begun)
        self.start()
        for _ in range(3):
            self.told(name, 1)
            victim = self.node.roles()["gateway"]
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: self.node.roles().get("gateway") not in (None, victim), "another gateway")
            eventually(lambda: self.answers(name), "it answers")
        with sqlite3.connect(f"file:{self.folder}/rules.db?mode=ro", uri=True) as database:
            fired = dict(database.execute("SELECT name, fired_ms FROM rules"))
        self.assertEqual(fired["rare"], begun + 60 * 60_000)
        self.assertEqual(fired["often"], begun + 90 * 60_000)
        self.assertEqual({line["event"]["rule"] for line in printed(self.node, name)}, {"often"})
        self.assertEqual(len({line["request"] for line in printed(self.node, name)}), 1)

    def answers(self, name):
        try:
            return printed(self.node, name)
        except OSError:
            return False

    def test_disabled_and_deleted_rules_are_silent(self):
        api = self.start()
        name = deploy(api, "teller")
        client = events(self.node)
        client.put_rule(Name="off", ScheduleExpression="rate(1 minute)", State="DISABLED")
        client.put_targets(Rule="off", Targets=[{"Id": "t", "Arn": arn_of(api, name)}])
        begun = int(time.time() * 1000) - 61_000
        self.rewrite(begun_ms=begun, fired_ms=begun)
        api = self.start()
        api.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"last": true}')
        self.assertEqual(len(self.told(name, 1)), 1)
        # Enabled, it counts from then on.
        events(self.node).enable_rule(Name="off")
        api.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"last": true}')
        self.assertTrue(all("last" in line["event"] for line in self.told(name, 2)))


if __name__ == "__main__":
    unittest.main()
