"""What functions come from and lead to outside the node: code in S3; results and dead letters to SQS, SNS, EventBridge."""

import json
import unittest
import uuid

from botocore.exceptions import ClientError

import harness
from cloud import ACCOUNT, REGION, Cloud, node
from harness import FIXTURES, Node, deploy, eventually, invoke, package
from test_async import get, send

ROLE = "arn:aws:iam::000000000000:role/test"


class Code(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cloud = cls.enterClassContext(Cloud())
        cls.node = node(cls, cls.cloud)
        cls.api = cls.node.client()
        cls.s3 = cls.cloud.client("s3")
        cls.s3.create_bucket(Bucket="code")
        cls.s3.put_bucket_versioning(Bucket="code", VersioningConfiguration={"Status": "Enabled"})

    def put(self, folder, key):
        return self.s3.put_object(Bucket="code", Key=key, Body=package(FIXTURES / folder))["VersionId"]

    def create(self, **code):
        name = f"f-{uuid.uuid4().hex[:8]}"
        self.api.create_function(
            FunctionName=name, Runtime="python3.11", Handler="app.handler", Role=ROLE, Timeout=30, Code=code
        )
        return name

    def refusal(self, call, **arguments):
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        error = caught.exception.response["Error"]
        return error["Code"], error["Message"]

    def test_a_function_is_made_and_changed_from_objects(self):
        key = "a folder/täller+1.zip"
        first = self.put("teller", key)
        name = self.create(S3Bucket="code", S3Key=key)
        self.assertEqual(invoke(self.api, name, {"number": 1}).value, {"number": 1})
        made = self.api.get_function_configuration(FunctionName=name)["CodeSha256"]
        other = self.s3.put_object(Bucket="code", Key=key, Body=package(FIXTURES))["VersionId"]
        self.assertNotEqual(first, other)
        changed = self.api.update_function_code(FunctionName=name, S3Bucket="code", S3Key=key)["CodeSha256"]
        self.assertNotEqual(made, changed)
        back = self.api.update_function_code(FunctionName=name, S3Bucket="code", S3Key=key, S3ObjectVersion=first)
        self.assertEqual(back["CodeSha256"], made)

    def test_what_is_not_there_is_told_in_awss_words(self):
        self.put("teller", "teller.zip")
        name = self.create(S3Bucket="code", S3Key="teller.zip")
        said = self.refusal(self.api.update_function_code, FunctionName=name, S3Bucket="code", S3Key="nothing")
        self.assertEqual(said[0], "InvalidParameterValueException")
        self.assertEqual(
            said[1],
            "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.",
        )
        said = self.refusal(self.api.update_function_code, FunctionName=name, S3Bucket="nobodys", S3Key="k")
        self.assertEqual(
            said[1],
            "Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified bucket does not exist",
        )
        said = self.refusal(self.api.update_function_code, FunctionName=name, ZipFile=b"x", S3Bucket="code", S3Key="k")
        self.assertEqual(said[1], "Please do not provide other FunctionCode parameters when providing a ZipFile.")
        self.s3.put_object(Bucket="code", Key="no.zip", Body=b"no zip")
        said = self.refusal(self.api.update_function_code, FunctionName=name, S3Bucket="code", S3Key="no.zip")
        self.assertIn("Could not unzip uploaded file", said[1])

    def test_a_node_that_knows_no_endpoint_says_what_to_configure(self):
        with Node() as bare:
            said = self.refusal(
                bare.client().create_function,
                FunctionName="f", Runtime="python3.11", Handler="app.handler", Role=ROLE,
                Code={"S3Bucket": "code", "S3Key": "k"},
            )  # fmt: skip
            self.assertIn("name one in [aws] of lichen.toml", said[1])


class Destinations(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cloud = cls.enterClassContext(Cloud())
        cls.node = node(cls, cls.cloud)
        cls.api = cls.node.client()

    def arrived(self, url, count=1):
        messages = []
        eventually(lambda: messages.extend(self.cloud.received(url)) or len(messages) >= count, "messages")
        return messages

    def send_to(self, name, success="", failure=""):
        sides = {"OnSuccess": success, "OnFailure": failure}
        self.api.put_function_event_invoke_config(
            FunctionName=name,
            MaximumRetryAttempts=0,
            DestinationConfig={side: {"Destination": arn} for side, arn in sides.items() if arn},
        )

    def test_results_reach_a_queue(self):
        name, (url, arn) = deploy(self.api, "teller"), self.cloud.queue()
        self.send_to(name, arn, arn)
        request = send(self.api, name, {"number": 1})
        record = json.loads(self.arrived(url)[0]["Body"])
        self.assertRegex(record.pop("timestamp"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            record,
            {
                "version": "1.0",
                "requestContext": {
                    "requestId": request,
                    "functionArn": f"arn:aws:lambda:us-east-1:000000000000:function:{name}:$LATEST",
                    "condition": "Success",
                    "approximateInvokeCount": 1,
                },
                "requestPayload": {"number": 1},
                "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
                "responsePayload": {"number": 1},
            },
        )
        send(self.api, name, {"fail": "no"})
        record = json.loads(self.arrived(url)[0]["Body"])
        self.assertEqual(record["requestContext"]["condition"], "RetriesExhausted")
        self.assertEqual(record["responseContext"]["functionError"], "Unhandled")
        self.assertEqual(record["responsePayload"]["errorMessage"], "no")

    def test_results_reach_a_topic_and_a_bus(self):
        # Both are seen through queues behind them.
        sns, events = self.cloud.client("sns"), self.cloud.client("events")
        url, queue = self.cloud.queue()
        topic = sns.create_topic(Name="results")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
        bus = events.create_event_bus(Name="results")["EventBusArn"]
        behind, target = self.cloud.queue()
        events.put_rule(Name="all", EventBusName="results", EventPattern=json.dumps({"source": ["lambda"]}))
        events.put_targets(Rule="all", EventBusName="results", Targets=[{"Id": "q", "Arn": target}])
        name = deploy(self.api, "teller")
        self.send_to(name, topic, bus)
        send(self.api, name, {"text": "ä & <b> +%"})
        record = json.loads(self.arrived(url)[0]["Body"])
        self.assertEqual(record["requestPayload"], {"text": "ä & <b> +%"})
        failed = send(self.api, name, {"fail": "no"})
        event = json.loads(self.arrived(behind)[0]["Body"])
        arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}:$LATEST"
        self.assertEqual((event["source"], event["detail-type"]), ("lambda", "Lambda Function Invocation Result - Failure"))
        self.assertEqual(event["resources"], [arn, bus])
        self.assertEqual(event["detail"]["requestContext"]["requestId"], failed)

    def test_dead_letters_carry_why(self):
        (url, arn) = self.cloud.queue()
        name = deploy(self.api, "teller", DeadLetterConfig={"TargetArn": arn})
        self.api.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
        request = send(self.api, name, {"fail": "no"})
        letter = self.arrived(url)[0]
        self.assertEqual(json.loads(letter["Body"]), {"fail": "no"})
        told = {key: (value["DataType"], value["StringValue"]) for key, value in letter["MessageAttributes"].items()}
        self.assertEqual(
            told, {"RequestID": ("String", request), "ErrorCode": ("Number", "200"), "ErrorMessage": ("String", "no")}
        )

    def test_a_destination_that_is_not_there_leaves_its_message_with_the_dead(self):
        name = deploy(self.api, "teller")
        gone = f"arn:aws:sqs:{REGION}:{ACCOUNT}:gone"
        self.send_to(name, gone)
        request = send(self.api, name, {"number": 1})
        find = lambda: [dead for dead in get(self.node, "/v1/dlq") if dead["target"] == gone]
        dead = eventually(find, "a dead message")[0]
        self.assertEqual(dead["reason"], "TargetUnavailable")
        self.assertIn("NonExistentQueue", json.dumps(dead["error"]))
        url = self.cloud.client("sqs").create_queue(QueueName="gone")["QueueUrl"]
        harness.lichen("dlq", "redrive", dead["request"], endpoint=self.node.endpoint)
        self.assertEqual(json.loads(self.arrived(url)[0]["Body"])["requestContext"]["requestId"], request)
        self.assertEqual(find(), [])

    def test_what_waits_for_a_service_survives_it_and_the_node(self):
        cloud = self.enterContext(Cloud())
        own = node(self, cloud)
        api = own.client()
        name, (url, arn) = deploy(api, "teller"), cloud.queue()
        api.put_function_event_invoke_config(FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": arn}})
        cloud.stop()
        sent = [send(api, name, {"number": number}) for number in range(20)]
        eventually(lambda: get(own, "/v1/queue")["depth"] == 20, "all wait")
        gateway = own.roles()["gateway"]
        harness.os.kill(gateway, harness.signal.SIGKILL)
        eventually(lambda: own.roles().get("gateway") not in (None, gateway), "another gateway")
        cloud.start()
        messages = []
        eventually(lambda: messages.extend(cloud.received(url)) or len(messages) >= 20, "all arrive")
        told = [json.loads(message["Body"])["requestContext"]["requestId"] for message in messages]
        self.assertEqual(sorted(told), sorted(sent))


if __name__ == "__main__":
    unittest.main()
