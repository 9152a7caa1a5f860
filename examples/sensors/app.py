"""A stream's processor: readings of sensors, in their order, shard by shard; what is out of bounds is told at once."""

import base64
import json
from collections import defaultdict
from statistics import fmean

LIMIT = 80.0


def handler(event, context):
    readings = defaultdict(list)
    for record in event["Records"]:
        # Records are in their order within a sensor: its name is the partition key.
        kinesis = record["kinesis"]
        sensor, value = kinesis["partitionKey"], float(base64.b64decode(kinesis["data"]).decode())
        readings[sensor].append(value)
        if value > LIMIT:
            print(json.dumps({"alarm": sensor, "value": value, "after": len(readings[sensor])}))
    for sensor, values in sorted(readings.items()):
        summary = {"count": len(values), "mean": round(fmean(values), 2), "last": values[-1]}
        print(json.dumps({"sensor": sensor, **summary}))
