#!/usr/bin/env python3
"""Gives an alias to a new version step by step, and takes it back where that version fails.

    canary.py FUNCTION ALIAS VERSION EVENTS      EVENTS: a file with an event on each line

Endpoint and credentials come from the environment, as for every AWS client. It ends with 0 where the alias points to the
version in the end, with 1 where it was taken back.
"""

import json
import sys

import boto3

STEPS = (0.1, 0.5)
# Calls at each step, and the share of the new version's that may fail.
CALLS, TOLERATED = 60, 0.02


def serve(api, function, alias, events, version):
    """Calls the alias, as its callers do: how often the version was met, and how often it failed."""
    met = failed = 0
    for number in range(CALLS):
        reply = api.invoke(FunctionName=function, Qualifier=alias, Payload=events[number % len(events)])
        reply["Payload"].read()
        if reply["ExecutedVersion"] == version:
            met += 1
            failed += "FunctionError" in reply
    return met, failed


def main(function, alias, version, events):
    api = boto3.client("lambda")
    stable = api.get_alias(FunctionName=function, Name=alias)["FunctionVersion"]
    for share in STEPS:
        routing = {"AdditionalVersionWeights": {version: share}}
        api.update_alias(FunctionName=function, Name=alias, FunctionVersion=stable, RoutingConfig=routing)
        met, failed = serve(api, function, alias, events, version)
        print(json.dumps({"share": share, "met": met, "failed": failed}))
        if failed > TOLERATED * met:
            api.update_alias(FunctionName=function, Name=alias, FunctionVersion=stable, RoutingConfig={})
            print(json.dumps({"taken back to": stable}))
            return 1
    api.update_alias(FunctionName=function, Name=alias, FunctionVersion=version, RoutingConfig={})
    print(json.dumps({"given to": version}))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    with open(sys.argv[4]) as lines:
        sys.exit(main(*sys.argv[1:4], [line.encode() for line in lines if line.strip()]))
