"""An image pipeline: a picture that was put into a bucket gets a small one beside it, and a few words about itself."""

import io
import json
import os
import urllib.parse

import boto3
from PIL import Image

SIZE = (160, 160)
SMALL = "small/"
s3 = boto3.client(
    "s3",
    endpoint_url=os.environ.get("STORAGE"),
    aws_access_key_id=os.environ.get("STORAGE_KEY"),
    aws_secret_access_key=os.environ.get("STORAGE_SECRET"),
)


def handler(event, context):
    for message in event["Records"]:
        # S3 tells a queue, the queue tells us; its first message is a test.
        for record in json.loads(message["body"]).get("Records", []):
            bucket = record["s3"]["bucket"]["name"]
            key = urllib.parse.unquote_plus(record["s3"]["object"]["key"])
            if not key.startswith(SMALL):
                print(json.dumps(shrink(bucket, key)))


def shrink(bucket, key):
    original = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with Image.open(io.BytesIO(original)) as picture:
        told = {"picture": key, "format": picture.format, "size": picture.size}
        picture.thumbnail(SIZE)
        small = io.BytesIO()
        picture.convert("RGB").save(small, "JPEG", quality=80)
    metadata = {"width": str(told["size"][0]), "height": str(told["size"][1])}
    s3.put_object(Bucket=bucket, Key=SMALL + key, Body=small.getvalue(), ContentType="image/jpeg", Metadata=metadata)
    return {**told, "bytes": {"before": len(original), "after": small.tell()}}
