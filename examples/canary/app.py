"""Prices with tax. RATES is what its releases differ in: one of them forgets a country."""

import os

RATES = {"AT": 20, "DE": 19, "FR": 20}
if os.environ.get("RELEASE") == "broken":
    del RATES["FR"]


def handler(event, context):
    rate = RATES[event["country"]]
    return {"gross": round(event["net"] * (100 + rate) / 100, 2), "version": context.function_version}
