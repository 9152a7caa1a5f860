"""Topics of Kafka as event sources, against librdkafka's own cluster for tests, which speaks the real protocol."""

import base64
import json
import os
import signal
import unittest
import uuid

from botocore.exceptions import ClientError
from confluent_kafka import Producer

from harness import FIXTURES, Node, deploy, eventually, package
from test_async import printed


class Cluster:
    """Brokers on ports from the kernel, for as long as the producer lives in whose process they are."""

    def __init__(self, **options):
        self.producer = Producer({"test.mock.num.brokers": 2, "bootstrap.servers": "", "log_level": 0, **options})
        brokers = self.producer.list_topics(timeout=10).brokers.values()
        self.servers = sorted(f"{broker.host}:{broker.port}" for broker in brokers)

    def topic(self):
        """A new topic of four partitions."""
        name = f"t-{uuid.uuid4().hex[:8]}"
        eventually(lambda: len(self.producer.list_topics(name, timeout=10).topics[name].partitions) == 4, "the topic")
        return name

    def put(self, topic, *values, **options):
        for value in values:
            self.producer.produce(topic, value.encode(), **options)
        assert self.producer.flush(10) == 0


class Kafka(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.node = cls.enterClassContext(Node())
        cls.api = cls.node.client()

    def create(self, name, topic, servers=None, api=None, **settings):
        return (api or self.api).create_event_source_mapping(
            FunctionName=name,
            SelfManagedEventSource={"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": servers or self.cluster.servers}},
            **{"Topics": [topic], "SourceAccessConfigurations": [{"Type": "VPC_SUBNET", "URI": "subnet:s"}], **settings},
        )

    def map(self, name, topic, **settings):
        api = settings.get("api") or self.api
        made = self.create(name, topic, **settings)
        get = lambda: api.get_event_source_mapping(UUID=made["UUID"])["State"]
        eventually(lambda: get() == "Enabled", "the mapping is enabled")
        return made

    def values(self, name, count, own=None):
        return eventually(lambda: len(found := self.heard(name, own or self.node)) >= count and found, f"{count} records")

    def test_shape_and_records(self):
        name, topic = deploy(self.api, "teller"), self.cluster.topic()
        self.cluster.put(topic, "hello", key=b"k", partition=2, timestamp=1_738_324_800_000, headers=[("h", b"\x01v")])
        made = self.map(name, topic, StartingPosition="TRIM_HORIZON")
        self.assertEqual(str(uuid.UUID(made["SelfManagedKafkaEventSourceConfig"]["ConsumerGroupId"])), made["SelfManagedKafkaEventSourceConfig"]["ConsumerGroupId"])
        self.assertEqual(
            {key: made.get(key) for key in ("Topics", "BatchSize", "StartingPosition", "State", "SelfManagedEventSource", "EventSourceArn")},
            {
                "Topics": [topic],
                "BatchSize": 100,
                "StartingPosition": "TRIM_HORIZON",
                "State": "Creating",
                "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": self.cluster.servers}},
                "EventSourceArn": None,
            },
        )
        line = eventually(lambda: printed(self.node, name), "a batch")[0]
        self.assertEqual(
            line["event"],
            {
                "eventSource": "SelfManagedKafka",
                "bootstrapServers": ",".join(self.cluster.servers),
                "records": {
                    f"{topic}-2": [
                        {
                            "topic": topic,
                            "partition": 2,
                            "offset": 0,
                            "timestamp": 1_738_324_800_000,
                            "timestampType": "CREATE_TIME",
                            "key": base64.b64encode(b"k").decode(),
                            "value": base64.b64encode(b"hello").decode(),
                            "headers": [{"h": [1, ord("v")]}],
                        }
                    ]
                },
            },
        )

    def test_every_packing_and_the_order_of_a_partition(self):
        topic = self.cluster.topic()
        name = deploy(self.api, "teller")
        self.map(name, topic, StartingPosition="LATEST", BatchSize=10)
        sent = []
        for packing in ("none", "gzip", "snappy", "lz4", "zstd"):
            producer = Producer({"bootstrap.servers": ",".join(self.cluster.servers), "compression.type": packing, "linger.ms": 50})
            values = [f"{packing}-{number}-{'x' * 100}" for number in range(30)]
            for value in values:
                producer.produce(topic, value.encode(), partition=1)
            self.assertEqual(producer.flush(10), 0)
            sent += values
        self.assertEqual(self.values(name, len(sent)), sent)
        sizes = [len(records) for line in printed(self.node, name) for records in line["event"]["records"].values()]
        self.assertLessEqual(max(sizes), 10)

    def test_filters_and_failures(self):
        name, topic = deploy(self.api, "eater"), self.cluster.topic()
        pattern = {"value": {"n": [{"numeric": [">", 1]}]}}
        other = deploy(self.api, "teller")
        self.map(other, topic, StartingPosition="TRIM_HORIZON", FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)}]})
        # This one does not know records of Kafka, and fails until it is changed.
        self.map(name, topic, StartingPosition="TRIM_HORIZON")
        self.cluster.put(topic, '{"n": 1}', "text", '{"n": 2}', partition=0)
        self.assertEqual(self.values(other, 1), ['{"n": 2}'])
        problem = lambda: self.api.list_event_source_mappings(FunctionName=name)["EventSourceMappings"][0]["LastProcessingResult"]
        eventually(lambda: problem() == "PROBLEM: Function call failed", "it fails")
        self.api.update_function_code(FunctionName=name, ZipFile=package(FIXTURES / "teller"))
        self.assertEqual(self.values(name, 3), ['{"n": 1}', "text", '{"n": 2}'])
        eventually(lambda: problem() == "OK", "it goes on")

    def test_a_killed_node_goes_on_where_it_was(self):
        own = self.enterContext(Node())
        api = own.client()
        name, topic = deploy(api, "teller"), self.cluster.topic()
        self.cluster.put(topic, "before", partition=3)
        self.map(name, topic, api=api, StartingPosition="LATEST")
        for round_ in range(3):
            victim = own.roles()["gateway"]
            os.kill(victim, signal.SIGKILL)
            # It comes while nobody reads.
            self.cluster.put(topic, f"round {round_}", partition=3)
            eventually(lambda: own.roles().get("gateway") not in (None, victim), "another gateway")
            eventually(lambda: f"round {round_}" in self.heard(name, own), "it is read")
        self.assertNotIn("before", self.heard(name, own))

    def heard(self, name, own):
        try:
            lines = printed(own, name)
        except OSError:
            return []
        records = [record for line in lines for records in line["event"]["records"].values() for record in records]
        return [base64.b64decode(record["value"]).decode() for record in records]

    def test_refusals_in_awss_words(self):
        name, topic = deploy(self.api, "teller"), self.cluster.topic()

        def refusal(**settings):
            with self.assertRaises(ClientError) as caught:
                self.create(name, topic, **settings)
            error = caught.exception.response
            return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"], error["Error"]["Message"]

        function = self.api.get_function_configuration(FunctionName=name)["FunctionArn"]
        made = self.create(name, "topic", servers=["kafka:2000", "kafka:1000"])
        told = refusal(servers=["kafka:1000", "kafka:2000"], Topics=["topic"])
        self.assertEqual(
            told,
            (409, "ResourceConflictException", f'An event source mapping with event source ("kafka:1000,kafka:2000"), function ("{function}"), topics ("topic") already exists. Please update or delete the existing mapping with UUID {made["UUID"]}'),
        )
        # Nobody is there: it says so, and goes on trying.
        result = lambda: self.api.get_event_source_mapping(UUID=made["UUID"])["LastProcessingResult"]
        eventually(lambda: result().startswith("PROBLEM: Connection error. Please check your event source connection configuration."), "the problem is told")
        self.api.delete_event_source_mapping(UUID=made["UUID"])
        with self.assertRaises(ClientError) as caught:
            self.api.create_event_source_mapping(
                FunctionName=name, Topics=[topic], SelfManagedEventSource={"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["kafka:1"]}}
            )
        self.assertEqual(caught.exception.response["Error"]["Message"], "Required 'sourceAccessConfigurations' parameter is missing.")
        self.assertIn("without TLS and without authentication", refusal(SourceAccessConfigurations=[{"Type": "SASL_SCRAM_512_AUTH", "URI": "arn:aws:secretsmanager:us-east-1:000000000000:secret:s"}])[2])


if __name__ == "__main__":
    unittest.main()
