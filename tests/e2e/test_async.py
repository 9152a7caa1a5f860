"""Asynchronous invocation: accepted means delivered, whatever is killed and however full the disk is."""

import concurrent.futures
import json
import os
import random
import signal
import subprocess
import tempfile
import threading
import unittest
import urllib.request
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

import harness
from harness import Node, deploy, eventually, lichen

# Retries in a second, so that tests take seconds.
CONFIG = """
[queue]
retry_s = [1, 1]
"""


def node(test, extra="", **options):
    """A node of the test's own, with fast retries."""
    file = Path(test.enterContext(tempfile.TemporaryDirectory())) / "lichen.toml"
    file.write_text(CONFIG + extra)
    return test.enterContext(Node("--config", file, **options))


def get(node, path):
    with urllib.request.urlopen(node.endpoint + path, timeout=30) as reply:
        return json.load(reply)


def printed(node, name):
    """What the function's invocations have told: lines of JSON, each with the request's id."""
    path = f"/v1/functions/{name}/logs?last=1000000"
    with urllib.request.urlopen(node.endpoint + path, timeout=30) as reply:
        records = [json.loads(line) for line in reply]
    return [json.loads(record["message"]) for record in records if record["message"].startswith('{"told"')]


def send(api, name, event):
    """Invokes without waiting; the event's request id."""
    reply = api.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
    assert reply["StatusCode"] == 202 and reply["Payload"].read() == b"" and "FunctionError" not in reply
    return reply["ResponseMetadata"]["RequestId"]


def is_idle(node):
    return get(node, "/v1/queue")["depth"] == 0


class Delivery(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        file = Path(cls.folder) / "lichen.toml"
        file.write_text(CONFIG)
        cls.node = cls.enterClassContext(Node("--config", file))
        cls.api = cls.node.client()

    def told(self, name, count):
        return eventually(lambda: len(lines := printed(self.node, name)) >= count and lines, f"{count} invocations")

    def test_an_event_is_delivered_with_the_answers_request_id(self):
        name = deploy(self.api, "teller")
        request = send(self.api, name, {"number": 1})
        line = self.told(name, 1)[0]
        self.assertEqual((line["told"], line["request"], line["event"]), (name, request, {"number": 1}))

    def test_invoke_async(self):
        name = deploy(self.api, "teller")
        reply = self.api.invoke_async(FunctionName=name, InvokeArgs=b'{"old": true}')
        self.assertEqual(reply["Status"], 202)
        self.assertEqual(self.told(name, 1)[0]["event"], {"old": True})

    def test_refusals(self):
        name = deploy(self.api, "teller")
        for event, code, status in [(b"{", "InvalidRequestContentException", 400), (b'"' + b"x" * (1 << 20) + b'"', "RequestEntityTooLargeException", 413)]:
            with self.assertRaises(ClientError) as caught:
                self.api.invoke(FunctionName=name, InvocationType="Event", Payload=event)
            error = caught.exception.response
            self.assertEqual((error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]), (code, status))
        with self.assertRaises(self.api.exceptions.ResourceNotFoundException):
            self.api.invoke(FunctionName="nobody", InvocationType="Event", Payload=b"{}")

    def test_failures_are_retried_twice_with_one_id_and_then_kept(self):
        name = deploy(self.api, "teller")
        request = send(self.api, name, {"fail": "no"})
        find = lambda: [dead for dead in get(self.node, "/v1/dlq") if dead["request"] == request]
        dead = eventually(find, "the event is dead")[0]
        self.assertEqual((dead["reason"], dead["attempts"]), ("RetriesExhausted", 3))
        self.assertEqual(dead["error"]["errorMessage"], "no")
        self.assertEqual([line["request"] for line in printed(self.node, name)], [request] * 3)
        shown = lichen("dlq", "show", request, endpoint=self.node.endpoint)
        self.assertEqual(json.loads(shown.stdout)["payload"], {"fail": "no"})
        self.assertIn(request, lichen("dlq", "ls", endpoint=self.node.endpoint).stdout)
        self.assertEqual(lichen("dlq", "redrive", request, endpoint=self.node.endpoint).returncode, 0)
        self.told(name, 6)
        eventually(find, "the event is dead again")
        self.assertEqual(lichen("dlq", "purge", request, endpoint=self.node.endpoint).returncode, 0)
        self.assertEqual(find(), [])
        self.assertEqual(lichen("dlq", "purge", request, endpoint=self.node.endpoint).returncode, 2)

    def test_configuration_and_destinations(self):
        name, hears = deploy(self.api, "teller"), deploy(self.api, "teller")
        arn = self.api.get_function_configuration(FunctionName=hears)["FunctionArn"]
        self.api.put_function_event_invoke_config(
            FunctionName=name,
            MaximumRetryAttempts=0,
            DestinationConfig={"OnSuccess": {"Destination": arn}, "OnFailure": {"Destination": arn}},
        )
        failed = send(self.api, name, {"fail": "no"})
        record = self.told(hears, 1)[0]["event"]
        self.assertEqual((record["version"], record["requestPayload"]), ("1.0", {"fail": "no"}))
        context = record["requestContext"]
        self.assertEqual((context["requestId"], context["condition"], context["approximateInvokeCount"]), (failed, "RetriesExhausted", 1))
        self.assertTrue(context["functionArn"].endswith(f":function:{name}:$LATEST"))
        self.assertEqual(record["responseContext"], {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"})
        self.assertEqual(record["responsePayload"]["errorMessage"], "no")
        succeeded = send(self.api, name, {"number": 2})
        record = self.told(hears, 2)[1]["event"]
        self.assertEqual((record["requestContext"]["requestId"], record["requestContext"]["condition"]), (succeeded, "Success"))
        self.assertEqual(record["responseContext"], {"statusCode": 200, "executedVersion": "$LATEST"})
        self.assertEqual(record["responsePayload"], {"number": 2})
        self.assertEqual([dead for dead in get(self.node, "/v1/dlq") if dead["request"] == failed], [])

    def test_throttled_events_wait_and_run_in_their_order(self):
        name = deploy(self.api, "teller")
        self.api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        sent = [send(self.api, name, {"number": number}) for number in range(20)]
        eventually(lambda: get(self.node, "/v1/queue")["depth"] >= 20, "all wait")
        self.assertEqual(printed(self.node, name), [])
        self.api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        self.assertEqual([line["request"] for line in self.told(name, 20)], sent)


class Durability(unittest.TestCase):
    """Every process is killed, at random moments, again and again, under load."""

    KILLS = 20

    def test_nothing_that_was_accepted_is_lost(self):
        node_ = node(self, "durable = true\n")
        name = deploy(node_.client(), "teller")
        hears = self.witness(node_.client(), name)
        accepted, stop = {}, threading.Event()
        lock = threading.Lock()

        def load(worker):
            api = node_.client(connect_timeout=2, read_timeout=10)
            number = 0
            while not stop.is_set():
                number += 1
                key = f"{worker}-{number}"
                try:
                    request = send(api, name, {"key": key})
                except (ClientError, BotoCoreError):
                    # Refused or cut off: not accepted. Whoever is refused pauses.
                    stop.wait(0.05)
                    continue
                with lock:
                    accepted[key] = request

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            workers = [pool.submit(load, worker) for worker in range(8)]
            chance = random.Random(7)
            for _ in range(self.KILLS):
                before = len(accepted)
                eventually(lambda: len(accepted) >= before + 20, "events are accepted")
                role = chance.choice(["gateway", "gateway", "worker"])
                victim = eventually(lambda: node_.roles().get(role), f"there is a {role}")
                os.kill(victim, signal.SIGKILL)
                eventually(lambda: node_.roles().get(role) not in (None, victim), f"another {role}")
            stop.set()
            [worker.result() for worker in workers]
        self.check(node_, hears, accepted)

    def test_a_supervisor_that_is_killed(self):
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="lichen-e2e-"))
        first = node(self, folder=folder)
        name = deploy(first.client(), "teller")
        hears = self.witness(first.client(), name)
        first.client().put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        accepted = {f"k{number}": send(first.client(), name, {"key": f"k{number}"}) for number in range(50)}
        processes = harness.descendants(first.process.pid)
        first.stop(signal.SIGKILL)
        eventually(lambda: not harness.alive(processes), "all have ended")
        second = node(self, folder=folder)
        second.client().delete_function_concurrency(FunctionName=name)
        self.check(second, hears, accepted)

    def witness(self, api, name):
        """Has every success told to a function that is held: its events wait on disk, where no kill reaches them."""
        hears = deploy(api, "teller")
        api.put_function_concurrency(FunctionName=hears, ReservedConcurrentExecutions=0)
        arn = api.get_function_configuration(FunctionName=hears)["FunctionArn"]
        api.put_function_event_invoke_config(FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": arn}})
        return hears

    def check(self, node_, hears, accepted):
        node_.client().delete_function_concurrency(FunctionName=hears)
        eventually(lambda: self.idle(node_), "the queue is empty", limit=120)
        told = {}

        def all_told():
            told.clear()
            for line in printed(node_, hears):
                record = line["event"]
                told.setdefault(record["requestPayload"]["key"], []).append(record["requestContext"]["requestId"])
            return accepted.keys() <= told.keys()

        eventually(all_told, f"all of {len(accepted)} were handled")
        # Each was concluded once, under the id that its caller was told.
        self.assertEqual({key: told[key] for key in accepted}, {key: [request] for key, request in accepted.items()})
        self.assertEqual([key for key, requests in told.items() if len(requests) > 1], [])
        self.assertEqual(get(node_, "/v1/dlq"), [])

    def idle(self, node_):
        try:
            return is_idle(node_)
        except OSError:
            return False


class FullDisk(unittest.TestCase):
    def test_what_does_not_fit_is_refused_and_the_rest_is_delivered(self):
        place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="lichen-e2e-")))
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "tmpfs", place], capture_output=True)
        if done.returncode:
            self.skipTest(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", place], check=True)
        node_ = node(self, folder=place / "data")
        api = node_.client()
        name = deploy(api, "teller")
        api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        accepted, refused = [], 0
        for number in range(60):
            try:
                accepted.append(send(api, name, {"key": number, "fill": "x" * 1_000_000}))
            except ClientError as error:
                self.assertEqual(error.response["Error"]["Code"], "ServiceException")
                self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], 500)
                refused += 1
        self.assertTrue(refused and accepted, (refused, len(accepted)))
        self.assertEqual(get(node_, "/v1/queue")["depth"], len(accepted))
        # The limit cannot be lifted without room for the change: some is made.
        subprocess.run(["mount", "-o", "remount,size=256m", place], check=True)
        api.delete_function_concurrency(FunctionName=name)
        eventually(lambda: is_idle(node_), "the queue is empty")
        told = eventually(lambda: len(lines := printed(node_, name)) >= len(accepted) and lines, "all have run")
        self.assertEqual(sorted(line["request"] for line in told), sorted(accepted))


if __name__ == "__main__":
    unittest.main()
