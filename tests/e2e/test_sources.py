"""Event source mappings: their operations, word for word, and what their pollers do with queues and streams."""

import base64
import json
import os
import signal
import time
import unittest
import urllib.parse
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import BotoCoreError, ClientError
from cloud import ACCOUNT, REGION, Cloud, node
from harness import Node, deploy, eventually
from test_async import printed


class Sources(unittest.TestCase):
    """A node, and services beside it."""

    @classmethod
    def setUpClass(cls):
        cls.cloud = cls.enterClassContext(Cloud())
        cls.node = node(cls, cls.cloud)
        cls.api = cls.node.client()

    def refusal(self, call, **arguments):
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        error = caught.exception.response
        return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"], error["Error"]["Message"]

    def map(self, source, name, api=None, **settings):
        """A mapping that is enabled, and goes with the test."""
        api = api or self.api
        made = api.create_event_source_mapping(EventSourceArn=source, FunctionName=name, **settings)
        self.addCleanup(self.unmap, api, made["UUID"])
        self.settled(made["UUID"], api)
        return made

    def unmap(self, api, identifier):
        try:
            api.delete_event_source_mapping(UUID=identifier)
        except (ClientError, BotoCoreError):
            # It is gone already, or its node is.
            pass

    def settled(self, identifier, api=None, state="Enabled"):
        get = lambda: (api or self.api).get_event_source_mapping(UUID=identifier)
        return eventually(lambda: (found := get())["State"] == state and found, f"the mapping is {state}")

    def batches(self, name, count=1, own=None):
        """What the function's invocations were given."""
        return eventually(lambda: len(lines := printed(own or self.node, name)) >= count and lines, f"{count} batches")

    def contents(self, name, count, own=None):
        """What the function was given, record by record, as soon as there are so many."""
        flat = lambda: [text for line in printed(own or self.node, name) for text in line["contents"]]
        return eventually(lambda: len(found := flat()) >= count and found, f"{count} records")

    def left(self, url):
        """Messages that a queue has, shown or hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)


class Operations(Sources):
    def test_the_life_of_a_mapping(self):
        name, (_, arn) = deploy(self.api, "eater"), self.cloud.queue()
        function = self.api.get_function_configuration(FunctionName=name)["FunctionArn"]
        made = self.api.create_event_source_mapping(EventSourceArn=arn, FunctionName=name, Tags={"a": "b"})
        self.assertEqual(made["ResponseMetadata"]["HTTPStatusCode"], 202)
        identifier, modified = made["UUID"], made["LastModified"]
        self.assertEqual(str(uuid.UUID(identifier)), identifier)
        expected = {
            "UUID": identifier,
            "BatchSize": 10,
            "MaximumBatchingWindowInSeconds": 0,
            "FunctionResponseTypes": [],
            "EventSourceArn": arn,
            "FunctionArn": function,
            "LastModified": modified,
            "State": "Creating",
            "StateTransitionReason": "USER_INITIATED",
            "EventSourceMappingArn": f"arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{identifier}",
        }
        strip = lambda reply: {key: value for key, value in reply.items() if key != "ResponseMetadata"}
        self.assertEqual(strip(made), expected)
        self.assertEqual(strip(self.settled(identifier)), {**expected, "State": "Enabled"})
        listed = self.api.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
        self.assertEqual([mapping["UUID"] for mapping in listed], [identifier])
        listed = self.api.list_event_source_mappings(EventSourceArn=arn, FunctionName="another")
        self.assertEqual(listed["EventSourceMappings"], [])
        disabled = self.api.update_event_source_mapping(UUID=identifier, Enabled=False, BatchSize=5)
        self.assertEqual((disabled["ResponseMetadata"]["HTTPStatusCode"], disabled["State"], disabled["BatchSize"]), (202, "Disabling", 5))
        self.settled(identifier, state="Disabled")
        resource = made["EventSourceMappingArn"]
        self.assertEqual(self.api.list_tags(Resource=resource)["Tags"], {"a": "b"})
        self.api.tag_resource(Resource=resource, Tags={"c": "d"})
        self.api.untag_resource(Resource=resource, TagKeys=["a"])
        self.assertEqual(self.api.list_tags(Resource=resource)["Tags"], {"c": "d"})
        deleted = self.api.delete_event_source_mapping(UUID=identifier)
        self.assertEqual((deleted["ResponseMetadata"]["HTTPStatusCode"], deleted["State"]), (202, "Deleting"))
        missing = (404, "ResourceNotFoundException", "The resource you requested does not exist.")
        for call in (self.api.get_event_source_mapping, self.api.update_event_source_mapping, self.api.delete_event_source_mapping):
            self.assertEqual(self.refusal(call, UUID=identifier), missing)
        told = self.refusal(self.api.list_tags, Resource=resource)
        self.assertEqual(told[2], f"Event source mapping not found: {resource}")

    def test_changes_at_once_are_made_one_upon_the_other(self):
        made = self.api.create_event_source_mapping(
            EventSourceArn=self.cloud.queue()[1], FunctionName=deploy(self.api, "eater"), Enabled=False
        )
        self.addCleanup(self.unmap, self.api, made["UUID"])
        apis = [self.node.client() for _ in range(3)]
        for value in range(1, 9):
            changes = [
                lambda api: api.update_event_source_mapping(UUID=made["UUID"], BatchSize=value),
                lambda api: api.update_event_source_mapping(UUID=made["UUID"], ScalingConfig={"MaximumConcurrency": value + 1}),
                lambda api: api.tag_resource(Resource=made["EventSourceMappingArn"], Tags={f"t{value}": "x"}),
            ]
            with ThreadPoolExecutor(len(changes)) as threads:
                list(threads.map(lambda change, api: change(api), changes, apis))
            found = self.api.get_event_source_mapping(UUID=made["UUID"])
            self.assertEqual((found["BatchSize"], found["ScalingConfig"]), (value, {"MaximumConcurrency": value + 1}))
        self.assertEqual(len(self.api.list_tags(Resource=made["EventSourceMappingArn"])["Tags"]), 8)

    def test_a_streams_defaults(self):
        name = deploy(self.api, "eater")
        arn = self.stream("defaults")
        made = self.api.create_event_source_mapping(EventSourceArn=arn, FunctionName=name, StartingPosition="LATEST", Enabled=False)
        self.addCleanup(self.unmap, self.api, made["UUID"])
        for member, value in {
            "StartingPosition": "LATEST",
            "BatchSize": 100,
            "MaximumBatchingWindowInSeconds": 0,
            "ParallelizationFactor": 1,
            "DestinationConfig": {"OnFailure": {}},
            "MaximumRecordAgeInSeconds": -1,
            "BisectBatchOnFunctionError": False,
            "MaximumRetryAttempts": -1,
            "TumblingWindowInSeconds": 0,
            "FunctionResponseTypes": [],
            "LastProcessingResult": "No records processed",
            "StateTransitionReason": "User action",
        }.items():
            self.assertEqual(made[member], value, member)

    def stream(self, name):
        kinesis = self.cloud.client("kinesis")
        kinesis.create_stream(StreamName=name, ShardCount=1)
        return kinesis.describe_stream(StreamName=name)["StreamDescription"]["StreamARN"]

    def test_refusals_in_awss_words(self):
        name, (_, arn) = deploy(self.api, "eater"), self.cloud.queue()
        create = self.api.create_event_source_mapping
        invalid = lambda message: (400, "InvalidParameterValueException", message)
        gone = f"arn:aws:sqs:{REGION}:{ACCOUNT}:never-made"
        stream, gone_stream = self.stream("refusals"), f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/gone"
        table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t/stream/2025-01-01T00:00:00.000"
        missing_queue = self.refusal(create, EventSourceArn=gone, FunctionName=name)
        self.assertEqual(missing_queue[:2], invalid("")[:2])
        self.assertIn("Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue does not exist", missing_queue[2])
        for arguments, message in [
            ({"EventSourceArn": arn, "FunctionName": "nobody"}, "Function does not exist"),
            ({"FunctionName": name}, "Unrecognized event source."),
            ({"EventSourceArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:t"}, "Unrecognized event source."),
            ({"EventSourceArn": gone_stream, "StartingPosition": "LATEST"}, f"Stream not found: {gone_stream}"),
            ({"EventSourceArn": table, "StartingPosition": "LATEST"}, f"Stream not found: {table}"),
            ({"EventSourceArn": stream}, "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null."),
            ({"EventSourceArn": table, "StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1}, f"Unsupported starting position for arn type: {table}"),
            ({"EventSourceArn": arn, "BatchSize": 11}, "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"),
            ({"EventSourceArn": arn, "DestinationConfig": {"OnFailure": {"Destination": arn}}}, "Unsupported DestinationConfig parameter for given event source mapping type."),
            ({"EventSourceArn": arn, "FilterCriteria": {"Filters": [{"Pattern": '{"body": "x"}'}]}}, "Invalid filter pattern definition."),
        ]:
            self.assertEqual(self.refusal(create, **{"FunctionName": name, **arguments}), invalid(message), arguments)
        told = self.refusal(create, EventSourceArn=stream, FunctionName=name, StartingPosition="invalid")
        self.assertEqual(told, (400, "ValidationException", "1 validation error detected: Value 'invalid' at 'startingPosition' failed to satisfy constraint: Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]"))
        short = self.cloud.queue(VisibilityTimeout="10")[1]
        told = self.refusal(create, EventSourceArn=short, FunctionName=name)
        self.assertEqual(told, invalid("Queue visibility timeout: 10 seconds is less than Function timeout: 30 seconds"))

    def test_one_source_feeds_one_function_once(self):
        name, (_, arn) = deploy(self.api, "eater"), self.cloud.queue()
        first = self.map(arn, name)["UUID"]
        told = self.refusal(self.api.create_event_source_mapping, EventSourceArn=arn, FunctionName=name)
        self.assertEqual(
            told,
            (409, "ResourceConflictException", f'An event source mapping with SQS arn (" {arn} ") and function (" {name} ") already exists. Please update or delete the existing mapping with UUID {first}'),
        )
        stream = self.stream("twice")
        first = self.map(stream, name, StartingPosition="LATEST")["UUID"]
        told = self.refusal(self.api.create_event_source_mapping, EventSourceArn=stream, FunctionName=name, StartingPosition="LATEST")
        self.assertEqual(told[2], f'The event source arn (" {stream} ") and function (" {name} ") provided mapping already exists. Please update or delete the existing mapping with UUID {first}')

    def test_a_node_that_knows_no_endpoint_says_what_to_configure(self):
        with Node() as bare:
            name = deploy(bare.client(), "eater")
            told = self.refusal(bare.client().create_event_source_mapping, FunctionName=name, EventSourceArn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:q")
            self.assertIn("name one in [aws] of lichen.toml", told[2])


class Queues(Sources):
    def test_messages_arrive_in_lambdas_form_and_are_deleted(self):
        name, (url, arn) = deploy(self.api, "eater"), self.cloud.queue()
        self.map(arn, name)
        attributes = {"kind": {"DataType": "String", "StringValue": "v"}, "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
        sent = self.cloud.client("sqs").send_message(QueueUrl=url, MessageBody='{"n": 1}', MessageAttributes=attributes)
        record = self.batches(name)[0]["event"]["Records"][0]
        self.assertEqual(record["messageId"], sent["MessageId"])
        self.assertEqual((record["body"], record["md5OfBody"]), ('{"n": 1}', sent["MD5OfMessageBody"]))
        self.assertEqual(record["md5OfMessageAttributes"], sent["MD5OfMessageAttributes"])
        self.assertEqual((record["eventSource"], record["eventSourceARN"], record["awsRegion"]), ("aws:sqs", arn, REGION))
        self.assertEqual(record["messageAttributes"]["kind"], {"stringValue": "v", "stringListValues": [], "binaryListValues": [], "dataType": "String"})
        self.assertEqual(record["messageAttributes"]["raw"], {"binaryValue": "AP8=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"})
        for member in ("ApproximateReceiveCount", "SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"):
            self.assertIn(member, record["attributes"])
        self.assertTrue(record["receiptHandle"])
        eventually(lambda: self.left(url) == 0, "the message is deleted")

    def test_batches_gather_within_their_window(self):
        name, (url, arn) = deploy(self.api, "eater"), self.cloud.queue()
        self.send(url, [str(number) for number in range(25)])
        self.map(arn, name, BatchSize=20, MaximumBatchingWindowInSeconds=1)
        contents = self.contents(name, 25)
        self.assertEqual(sorted(map(int, contents)), list(range(25)))
        self.assertEqual(len(printed(self.node, name)[0]["contents"]), 20)
        eventually(lambda: self.left(url) == 0, "all are deleted")

    def send(self, url, bodies):
        sqs = self.cloud.client("sqs")
        for at in range(0, len(bodies), 10):
            entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies[at : at + 10])]
            sqs.send_message_batch(QueueUrl=url, Entries=entries)

    def test_only_what_failed_comes_again_where_failures_are_reported(self):
        name = deploy(self.api, "eater", Timeout=2)
        dead_url, dead = self.cloud.queue()
        redrive = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": "2"})
        url, arn = self.cloud.queue(VisibilityTimeout="2", RedrivePolicy=redrive)
        self.send(url, ['{"n": 1}', '{"n": 2, "report": true}', '{"n": 3}'])
        self.map(arn, name, FunctionResponseTypes=["ReportBatchItemFailures"])
        arrived = []
        eventually(lambda: arrived.extend(self.cloud.received(dead_url)) or arrived, "what failed twice is in the dead-letter queue")
        self.assertEqual([message["Body"] for message in arrived], ['{"n": 2, "report": true}'])
        contents = self.contents(name, 4)
        self.assertEqual(sorted(contents), sorted(['{"n": 1}', '{"n": 3}'] + ['{"n": 2, "report": true}'] * 2))
        self.assertEqual(self.left(url), 0)

    def test_a_batch_that_fails_comes_again_whole(self):
        name = deploy(self.api, "eater", Timeout=2)
        url, arn = self.cloud.queue(VisibilityTimeout="2")
        self.send(url, ["good", '{"fail": true}'])
        self.map(arn, name)
        self.assertEqual(sorted(self.contents(name, 4)[:4]), sorted(["good", '{"fail": true}'] * 2))

    def test_filters_keep_what_is_wanted_and_delete_the_rest(self):
        # A poll that the change cuts off may have been given the message: it is shown again when this time is over.
        name, (url, arn) = deploy(self.api, "eater", Timeout=2), self.cloud.queue(VisibilityTimeout="2")
        patterns = [{"body": {"kind": [{"prefix": "or"}], "n": [{"numeric": [">", 1]}]}}, {"body": {"urgent": [{"exists": True}]}}]
        filters = {"Filters": [{"Pattern": json.dumps(pattern)} for pattern in patterns]}
        made = self.map(arn, name, FilterCriteria=filters)
        self.assertEqual(made["FilterCriteria"], filters)
        wanted = ['{"kind": "order", "n": 2}', '{"urgent": false}']
        self.send(url, ["plain", '{"kind": "order", "n": 1}', '{"kind": "other", "n": 2}', *wanted])
        self.assertEqual(sorted(self.contents(name, 2)), sorted(wanted))
        eventually(lambda: self.left(url) == 0, "the rest is deleted")
        updated = self.api.update_event_source_mapping(UUID=made["UUID"], FilterCriteria={})
        self.assertNotIn("FilterCriteria", updated)
        self.settled(made["UUID"])
        self.send(url, ["plain"])
        self.assertIn("plain", self.contents(name, 3))

    def test_a_function_without_room_gets_its_messages_later(self):
        name, (url, arn) = deploy(self.api, "eater"), self.cloud.queue()
        self.api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        self.map(arn, name)
        self.send(url, [str(number) for number in range(5)])
        eventually(lambda: self.left(url) == 5, "all are under way")
        self.api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        self.assertEqual(sorted(self.contents(name, 5)), [str(number) for number in range(5)])
        eventually(lambda: self.left(url) == 0, "all are deleted")

    def test_groups_of_a_fifo_queue_keep_their_order(self):
        name, sqs = deploy(self.api, "eater"), self.cloud.client("sqs")
        url = sqs.create_queue(QueueName=f"q-{uuid.uuid4().hex[:8]}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        for number in range(15):
            for group in "ab":
                sqs.send_message(QueueUrl=url, MessageBody=f"{group}-{number}", MessageGroupId=group, MessageDeduplicationId=f"{group}{number}")
        self.map(arn, name, BatchSize=4)
        found = self.contents(name, 30)
        for group in "ab":
            self.assertEqual([text for text in found if text[0] == group], [f"{group}-{number}" for number in range(15)])
        record = printed(self.node, name)[0]["event"]["Records"][0]
        self.assertEqual((record["attributes"]["MessageGroupId"], record["attributes"]["MessageDeduplicationId"]), ("a", "a0"))

    def test_as_many_batches_at_once_as_the_mapping_says(self):
        name, (url, arn) = deploy(self.api, "sleeper"), self.cloud.queue()
        self.send(url, ["1"] * 30)
        self.map(arn, name, BatchSize=1, ScalingConfig={"MaximumConcurrency": 3})
        eventually(lambda: self.left(url) == 0, "all are done")
        spans = sorted((line["from"], line["to"]) for line in printed(self.node, name))
        at_once = [sum(1 for begin, end in spans if begin <= moment < end) for moment, _ in spans]
        self.assertEqual((len(spans), max(at_once)), (30, 3))

    def test_a_service_that_is_gone_is_read_again_when_it_is_back(self):
        cloud = self.enterContext(Cloud())
        own = node(self, cloud)
        api = own.client()
        name, (url, arn) = deploy(api, "eater"), cloud.queue()
        self.map(arn, name, api=api)
        cloud.stop()
        cloud.start()
        cloud.client("sqs").send_message(QueueUrl=url, MessageBody="back")
        self.assertEqual(self.contents(name, 1, own), ["back"])

    def test_what_is_under_way_ends_before_the_node_does(self):
        own = node(self, self.cloud)
        api = own.client()
        name, (url, arn) = deploy(api, "sleeper"), self.cloud.queue()
        self.map(arn, name, api=api, BatchSize=1)
        self.send(url, ["1"] * 5)
        eventually(lambda: self.left(url) < 5 or printed(own, name), "it has begun")
        self.assertEqual(own.stop(), 0)
        # What was received was handled and deleted; the rest is still there, and nobody holds it.
        hidden = ["ApproximateNumberOfMessagesNotVisible"]
        attributes = self.cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=hidden)["Attributes"]
        self.assertEqual(attributes["ApproximateNumberOfMessagesNotVisible"], "0")

    def test_objects_that_are_put_reach_a_function_through_a_queue(self):
        name, (url, arn) = deploy(self.api, "eater"), self.cloud.queue()
        self.map(arn, name)
        s3 = self.cloud.client("s3")
        s3.create_bucket(Bucket="images")
        s3.put_bucket_notification_configuration(
            Bucket="images",
            NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
        )
        s3.put_object(Bucket="images", Key="in/photo.jpg", Body=b"jpeg")
        told = eventually(lambda: [json.loads(text) for text in self.contents(name, 1) if "ObjectCreated" in text], "the event")
        record = told[0]["Records"][0]
        self.assertEqual((record["eventSource"], record["s3"]["bucket"]["name"], urllib.parse.unquote(record["s3"]["object"]["key"])), ("aws:s3", "images", "in/photo.jpg"))

    def test_many_messages(self):
        name, (url, arn) = deploy(self.api, "eater"), self.cloud.queue()
        sent = [f"m{number}" for number in range(200)]
        self.send(url, sent)
        self.map(arn, name)
        self.assertEqual(sorted(self.contents(name, 200)), sorted(sent))
        eventually(lambda: self.left(url) == 0, "all are deleted")

    def test_disabled_means_nothing_is_read_and_no_kill_deletes_what_was_not_handled(self):
        own = node(self, self.cloud)
        api = own.client()
        dead_url, dead = self.cloud.queue()
        redrive = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": "2"})
        name, (url, arn) = deploy(api, "eater", Timeout=2), self.cloud.queue(VisibilityTimeout="2", RedrivePolicy=redrive)
        made = self.map(arn, name, api=api, FunctionResponseTypes=["ReportBatchItemFailures"])
        api.update_event_source_mapping(UUID=made["UUID"], Enabled=False)
        self.settled(made["UUID"], api, "Disabled")
        sent = [json.dumps({"report": True, "n": number}) for number in range(30)]
        self.send(url, sent)
        self.assertEqual((self.left(url), printed(own, name)), (30, []))
        api.update_event_source_mapping(UUID=made["UUID"], Enabled=True)
        for _ in range(3):
            eventually(lambda: printed(own, name), "something was read")
            victim = own.roles()["gateway"]
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: own.roles().get("gateway") not in (None, victim), "another gateway")
            eventually(lambda: self.answers(api), "it answers")
        self.settled(made["UUID"], api)
        arrived = []
        eventually(lambda: arrived.extend(self.cloud.received(dead_url)) or len(arrived) >= 30, "all have failed")
        self.assertEqual(sorted(message["Body"] for message in arrived), sorted(sent))

    def answers(self, api):
        try:
            return api.list_functions()
        except (OSError, BotoCoreError):
            return False


class Streams(Sources):
    def stream(self, shards=1):
        name = f"s-{uuid.uuid4().hex[:8]}"
        kinesis = self.cloud.client("kinesis")
        kinesis.create_stream(StreamName=name, ShardCount=shards)
        return name, kinesis.describe_stream(StreamName=name)["StreamDescription"]["StreamARN"]

    def put(self, stream, *contents, key="k"):
        kinesis = self.cloud.client("kinesis")
        records = [{"Data": text.encode(), "PartitionKey": key if isinstance(key, str) else key(text)} for text in contents]
        return kinesis.put_records(StreamName=stream, Records=records)["Records"]

    def test_records_arrive_in_lambdas_form(self):
        name, (stream, arn) = deploy(self.api, "eater"), self.stream()
        self.put(stream, "before")
        self.map(arn, name, StartingPosition="LATEST")
        put = self.put(stream, "hello")[0]
        record = self.batches(name)[0]["event"]["Records"][0]
        arrived = record["kinesis"].pop("approximateArrivalTimestamp")
        self.assertIsInstance(arrived, (int, float))
        self.assertEqual(
            record,
            {
                "kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "k", "sequenceNumber": put["SequenceNumber"], "data": base64.b64encode(b"hello").decode()},
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"{put['ShardId']}:{put['SequenceNumber']}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/test",
                "awsRegion": REGION,
                "eventSourceARN": arn,
            },
        )

    def test_shards_are_read_in_their_order_from_the_beginning(self):
        name, (stream, arn) = deploy(self.api, "eater"), self.stream(2)
        contents = [f"{key}-{number}" for number in range(20) for key in "abcd"]
        self.put(stream, *contents, key=lambda text: text[0])
        self.map(arn, name, StartingPosition="TRIM_HORIZON", BatchSize=7)
        found = self.contents(name, 80)
        self.assertEqual(sorted(found), sorted(contents))
        for key in "abcd":
            self.assertEqual([text for text in found if text[0] == key], [f"{key}-{number}" for number in range(20)])
        self.assertTrue(all(len(line["contents"]) <= 7 for line in printed(self.node, name)))

    def test_records_of_one_key_stay_in_order_where_batches_run_at_once(self):
        name, (stream, arn) = deploy(self.api, "eater"), self.stream()
        contents = [f"{key}-{number}" for number in range(20) for key in "abcd"]
        self.put(stream, *contents, key=lambda text: text[0])
        self.map(arn, name, StartingPosition="TRIM_HORIZON", ParallelizationFactor=4)
        found = self.contents(name, 80)
        for key in "abcd":
            self.assertEqual([text for text in found if text[0] == key], [f"{key}-{number}" for number in range(20)])
        self.assertGreater(len(printed(self.node, name)), 1)

    def test_a_batch_that_fails_is_halved_and_what_is_given_up_is_told(self):
        name, (stream, arn) = deploy(self.api, "eater"), self.stream()
        url, destination = self.cloud.queue()
        poison = '{"fail": true}'
        sequences = [record["SequenceNumber"] for record in self.put(stream, "a", "b", poison, "c")]
        self.map(
            arn, name, StartingPosition="TRIM_HORIZON", BisectBatchOnFunctionError=True, MaximumRetryAttempts=1,
            DestinationConfig={"OnFailure": {"Destination": destination}},
        )  # fmt: skip
        arrived = []
        eventually(lambda: arrived.extend(self.cloud.received(url)) or arrived, "the destination is told")
        message = json.loads(arrived[0]["Body"])
        self.assertEqual((message["version"], message["requestContext"]["condition"]), ("1.0", "RetryAttemptsExhausted"))
        self.assertEqual(message["requestContext"]["approximateInvokeCount"], 2)
        self.assertEqual(message["responseContext"], {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"})
        info = message["KinesisBatchInfo"]
        self.assertEqual((info["startSequenceNumber"], info["endSequenceNumber"], info["batchSize"]), (sequences[2], sequences[2], 1))
        self.assertEqual((info["streamArn"], info["shardId"]), (arn, "shardId-000000000000"))
        eventually(lambda: any("c" in line["contents"] and not line["failing"] for line in printed(self.node, name)), "the last one")
        well = [text for line in printed(self.node, name) if not line["failing"] for text in line["contents"]]
        self.assertEqual(well, ["a", "b", "c"])

    def test_a_reported_failure_is_where_the_batch_begins_again(self):
        name, (stream, arn) = deploy(self.api, "eater"), self.stream()
        self.put(stream, "a", '{"report": true}', "b")
        self.map(arn, name, StartingPosition="TRIM_HORIZON", MaximumRetryAttempts=1, FunctionResponseTypes=["ReportBatchItemFailures"])
        whole = ["a", '{"report": true}', "b"]
        self.assertEqual([line["contents"] for line in self.batches(name, 2)], [whole, whole[1:]])
        self.put(stream, "c")
        self.assertEqual(self.batches(name, 3)[2]["contents"], ["c"])

    def test_a_batch_that_fails_holds_up_its_shard(self):
        name, (stream, arn) = deploy(self.api, "eater"), self.stream()
        self.put(stream, '{"fail": true}')
        self.map(arn, name, StartingPosition="TRIM_HORIZON", BatchSize=1)
        self.put(stream, "later")
        self.batches(name, 3)
        self.assertFalse(any("later" in line["contents"] for line in printed(self.node, name)))

    def test_a_mapping_begins_at_a_moment(self):
        name, (stream, arn) = deploy(self.api, "eater"), self.stream()
        first = self.put(stream, "before")[0]
        kinesis = self.cloud.client("kinesis")
        iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=first["ShardId"], ShardIteratorType="TRIM_HORIZON")
        arrived = kinesis.get_records(ShardIterator=iterator["ShardIterator"])["Records"][0]["ApproximateArrivalTimestamp"]
        # Whole seconds are what clients send.
        moment = int(arrived.timestamp()) + 1
        eventually(lambda: time.time() > moment + 0.1, "the moment")
        self.put(stream, "after")
        self.map(arn, name, StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=moment)
        self.assertEqual(self.contents(name, 1), ["after"])
        metrics = urllib.request.urlopen(self.node.endpoint + "/metrics", timeout=30).read().decode()
        self.assertIn(f'source="{arn}"}} 1', metrics)

    def test_tumbling_windows_carry_their_state_and_end_once(self):
        own = node(self, self.cloud)
        api = own.client()
        name, (stream, arn) = deploy(api, "summer"), self.stream()
        # Long enough that a kill falls into it.
        length = 5
        self.map(arn, name, api=api, StartingPosition="TRIM_HORIZON", BatchSize=2, TumblingWindowInSeconds=length)
        sent = 0
        ended = lambda: [line for line in printed(own, name) if line["event"]["isFinalInvokeForWindow"]]
        for round_ in range(3):
            self.put(stream, *[str(number) for number in range(10)])
            sent += sum(range(10))
            eventually(lambda: sum(sum(line["numbers"]) for line in printed(own, name)) >= sent, "the numbers")
        # A kill may have the end of a window told twice.
        states = lambda: {line["event"]["window"]["start"]: line["event"]["state"] for line in ended()}
        sums = lambda: sum(state.get("sum", 0) for state in states().values())
        victim = own.roles()["gateway"]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: own.roles().get("gateway") not in (None, victim), "another gateway")
        lines = eventually(lambda: self.quietly(lambda: sums() == sent and ended()), "the windows are over")
        final = lines[-1]["event"]
        self.assertEqual((final["shardId"], final["eventSourceARN"], final["isWindowTerminatedEarly"]), ("shardId-000000000000", arn, False))
        self.assertLessEqual(len(lines), len(states()) + 1)
        self.assertRegex(final["window"]["end"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")

    def quietly(self, question):
        try:
            return question()
        except OSError:
            return False

    def test_filters_look_into_data(self):
        name, (stream, arn) = deploy(self.api, "eater"), self.stream()
        filters = {"Filters": [{"Pattern": json.dumps({"data": {"n": [{"numeric": [">=", 2]}]}, "partitionKey": ["k"]})}]}
        self.map(arn, name, StartingPosition="TRIM_HORIZON", FilterCriteria=filters)
        self.put(stream, '{"n": 1}', "text", '{"n": 2}')
        self.put(stream, '{"n": 3}', key="other")
        self.put(stream, '{"n": 4}')
        self.assertEqual(self.contents(name, 2), ['{"n": 2}', '{"n": 4}'])

    def test_a_killed_node_goes_on_where_it_was(self):
        own = node(self, self.cloud)
        api = own.client()
        name, (stream, arn) = deploy(api, "eater"), self.stream(2)
        # Lines that a function prints may be lost with the gateway; what a destination is told is not.
        url, destination = self.cloud.queue()
        self.map(
            arn, name, api=api, StartingPosition="TRIM_HORIZON", BatchSize=5, MaximumRetryAttempts=0,
            DestinationConfig={"OnFailure": {"Destination": destination}},
        )  # fmt: skip
        sent, told = [], []
        for round_ in range(5):
            more = [json.dumps({"fail": True, "n": f"{round_}-{number}"}) for number in range(40)]
            sent += self.put(stream, *more, key=lambda text: text)
            before = len(told)
            eventually(lambda: told.extend(self.cloud.received(url)) or len(told) > before, "some were read")
            victim = own.roles()["gateway"]
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: own.roles().get("gateway") not in (None, victim), "another gateway")
        eventually(lambda: told.extend(self.cloud.received(url)) or not self.missing(sent, told), "all were handled")
        count = sum(json.loads(message["Body"])["KinesisBatchInfo"]["batchSize"] for message in told)
        # A kill repeats the batches that were under way, one in each shard, and no others.
        self.assertLessEqual(count, len(sent) + 5 * 2 * 5)

    def missing(self, sent, told):
        """Records that are in none of the batches that were told of."""
        infos = [json.loads(message["Body"])["KinesisBatchInfo"] for message in told]
        has = lambda info, record: info["shardId"] == record["ShardId"] and (
            int(info["startSequenceNumber"]) <= int(record["SequenceNumber"]) <= int(info["endSequenceNumber"])
        )
        return [record for record in sent if not any(has(info, record) for info in infos)]

    def test_the_changes_of_a_table(self):
        dynamodb = self.cloud.client("dynamodb")
        table = f"t-{uuid.uuid4().hex[:8]}"
        made = dynamodb.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
        arn = made["TableDescription"]["LatestStreamArn"]
        name = deploy(self.api, "eater")
        filters = {"Filters": [{"Pattern": json.dumps({"eventName": ["INSERT", "REMOVE"]})}]}
        self.map(arn, name, StartingPosition="TRIM_HORIZON", FilterCriteria=filters)
        dynamodb.put_item(TableName=table, Item={"id": {"S": "1"}, "n": {"N": "5"}})
        dynamodb.put_item(TableName=table, Item={"id": {"S": "1"}, "n": {"N": "6"}})
        dynamodb.delete_item(TableName=table, Key={"id": {"S": "1"}})
        self.contents(name, 2)
        records = [record for line in printed(self.node, name) for record in line["event"]["Records"]]
        self.assertEqual([record["eventName"] for record in records], ["INSERT", "REMOVE"])
        insert = records[0]
        self.assertEqual((insert["eventSource"], insert["eventSourceARN"], insert["awsRegion"]), ("aws:dynamodb", arn, REGION))
        self.assertEqual(insert["dynamodb"]["Keys"], {"id": {"S": "1"}})
        self.assertEqual(insert["dynamodb"]["NewImage"], {"id": {"S": "1"}, "n": {"N": "5"}})
        self.assertEqual(records[1]["dynamodb"]["OldImage"]["n"], {"N": "6"})


if __name__ == "__main__":
    unittest.main()
