"""A queue's worker: prices orders, and reports the ones that it could not, so that only those come again."""

import json
from decimal import Decimal

PRICES = {"apple": Decimal("0.30"), "bread": Decimal("2.40"), "coffee": Decimal("7.95")}


class Refused(ValueError):
    """An order that cannot be served."""


def total(order):
    lines = order.get("lines")
    if not lines:
        raise Refused("an order has lines")
    unknown = [line["item"] for line in lines if line["item"] not in PRICES]
    if unknown:
        raise Refused(f"no such item: {', '.join(unknown)}")
    return sum(PRICES[line["item"]] * line["count"] for line in lines)


def handler(event, context):
    failures = []
    for record in event["Records"]:
        try:
            order = json.loads(record["body"])
            print(json.dumps({"order": order["id"], "total": str(total(order)), "attempt": attempt(record)}))
        except (ValueError, KeyError, TypeError) as error:
            print(json.dumps({"refused": record["messageId"], "because": str(error), "attempt": attempt(record)}))
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}


def attempt(record):
    return int(record["attributes"]["ApproximateReceiveCount"])
