"""moto's server, which plays the services beside Lambda, and a node that knows where it is."""

import logging
import tempfile
import uuid
from pathlib import Path

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from harness import Node

# It would tell every request.
logging.getLogger("werkzeug").setLevel(logging.ERROR)

ACCOUNT = "123456789012"
REGION = "us-east-1"


class Cloud:
    """One server for all services, on a port from the kernel. What it knows outlives its being stopped."""

    def __init__(self):
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        _, self.port = self.server.get_host_and_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 2}, s3={"addressing_style": "path"}),
        )

    def stop(self):
        self.server.stop()

    def start(self):
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def queue(self, **attributes):
        """A new queue: its URL and its ARN."""
        sqs = self.client("sqs")
        url = sqs.create_queue(QueueName=f"q-{uuid.uuid4().hex[:8]}", Attributes=attributes)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    def received(self, url):
        """Messages that are in a queue, taken out of it."""
        sqs, messages = self.client("sqs"), []
        while page := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]).get("Messages"):
            for message in page:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            messages += page
        return messages


def node(test, cloud, extra="", **options):
    """A node of the test's own, with fast retries, that knows the cloud. `test` is a TestCase, or the class of one."""
    context = test.enterClassContext if isinstance(test, type) else test.enterContext
    file = Path(context(tempfile.TemporaryDirectory())) / "lichen.toml"
    file.write_text(f'[queue]\nretry_s = [1, 1]\n{extra}\n[aws]\nendpoint = "{cloud.endpoint}"\n')
    return context(Node("--config", file, **options))
