"""The control plane beyond functions, by AWS's Python client: what AWS answers, member by member and word by word."""

import io
import json
import os
import re
import unittest
import urllib.error
import urllib.request
import uuid
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = os.environ.get("LICHEN_ENDPOINT", "http://127.0.0.1:9000")
ROLE = "arn:aws:iam::000000000000:role/test"
UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
DATE = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$"
APP = """
def handler(event, context):
    return {"release": %r, "version": context.function_version, "arn": context.invoked_function_arn, "event": event}
"""


def package(release=1):
    bytes_ = io.BytesIO()
    with zipfile.ZipFile(bytes_, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), APP % release)
    return bytes_.getvalue()


class Control(unittest.TestCase):
    """Each test has a function of its own."""

    maxDiff = None

    def setUp(self):
        self.api = boto3.client(
            "lambda",
            endpoint_url=ENDPOINT,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}, read_timeout=60, parameter_validation=False),
        )
        self.name = f"control-{uuid.uuid4().hex[:12]}"
        self.arn = f"arn:aws:lambda:us-east-1:000000000000:function:{self.name}"

    def create(self, name=None, **settings):
        name = name or self.name
        defaults = {"Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": package()}}
        created = self.api.create_function(FunctionName=name, **{**defaults, **settings})
        self.addCleanup(self.delete, name)
        return created

    def delete(self, name):
        try:
            self.api.delete_function(FunctionName=name)
        except self.api.exceptions.ResourceNotFoundException:
            pass

    def two_versions(self):
        """Versions 1 and 2, of releases 1 and 2; $LATEST is release 3."""
        self.create(Publish=True)
        self.api.update_function_code(FunctionName=self.name, ZipFile=package(2), Publish=True)
        self.api.update_function_code(FunctionName=self.name, ZipFile=package(3))

    def invoke(self, qualifier=None, name=None):
        options = {"Qualifier": qualifier} if qualifier else {}
        reply = self.api.invoke(FunctionName=name or self.name, Payload="{}", **options)
        value = json.load(reply["Payload"])
        self.assertNotIn("FunctionError", reply, value)
        return reply["ExecutedVersion"], value

    def status(self, answer, status):
        self.assertEqual(answer.pop("ResponseMetadata")["HTTPStatusCode"], status)
        return answer

    def refused(self, code, status, message, call, **options):
        with self.assertRaises(ClientError) as caught:
            call(**options)
        answer = caught.exception.response
        self.assertEqual(answer["Error"]["Code"], code, answer)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], status)
        self.assertEqual(answer["Error"]["Message"], message)

    def http(self, method, path, body=None, headers=None):
        """A request of one's own: status, JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(ENDPOINT + path, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")


class Versions(Control):
    def test_a_version_is_published_once(self):
        created = self.create()
        published = self.status(self.api.publish_version(FunctionName=self.name, Description="first"), 201)
        self.assertEqual((published["Version"], published["FunctionArn"]), ("1", f"{self.arn}:1"))
        self.assertEqual((published["Description"], published["CodeSha256"]), ("first", created["CodeSha256"]))
        self.assertEqual((published["State"], published["LastUpdateStatus"]), ("Active", "Successful"))
        self.assertRegex(published["RevisionId"], UUID)
        self.assertNotEqual(published["RevisionId"], created["RevisionId"])
        again = self.status(self.api.publish_version(FunctionName=self.name, Description="again"), 201)
        self.assertEqual((again["Version"], again["Description"]), ("1", "first"))
        self.assertEqual(again["RevisionId"], published["RevisionId"])
        self.assertEqual((again["State"], again["LastUpdateStatus"]), ("Active", "Successful"))
        self.api.get_waiter("published_version_active").wait(FunctionName=self.name, Qualifier="1")
        self.assertEqual(self.api.get_function_configuration(FunctionName=self.name)["Description"], "")

    def test_a_version_stays_what_it_was(self):
        self.two_versions()
        self.assertEqual([self.invoke(q)[1]["release"] for q in ("1", "2", "$LATEST", None)], [1, 2, 3, 3])
        for qualifier, arn in (("1", f"{self.arn}:1"), ("$LATEST", f"{self.arn}:$LATEST"), (None, self.arn)):
            version, value = self.invoke(qualifier)
            self.assertEqual(version, qualifier or "$LATEST")
            self.assertEqual((value["version"], value["arn"]), (qualifier or "$LATEST", arn))
        self.assertEqual(self.invoke(name=f"{self.arn}:2")[0], "2")
        self.assertEqual(self.invoke("2", name=f"{self.name}:2")[0], "2")
        self.api.update_function_configuration(FunctionName=self.name, Timeout=9, Description="new")
        one = self.api.get_function_configuration(FunctionName=self.name, Qualifier="1")
        self.assertEqual((one["Timeout"], one["Description"], one["Version"]), (3, "", "1"))
        self.assertEqual(one["FunctionArn"], f"{self.arn}:1")
        two = self.api.get_function(FunctionName=f"{self.name}:2")
        self.assertEqual((two["Configuration"]["Version"], two["Configuration"]["State"]), ("2", "Active"))
        with urllib.request.urlopen(two["Code"]["Location"]) as code:
            self.assertEqual(code.read(), package(2))

    def test_publication_along_with_a_change(self):
        created = self.create(Publish=True)
        self.assertEqual((created["Version"], created["FunctionArn"]), ("1", self.arn))
        changed = self.api.update_function_code(FunctionName=self.name, ZipFile=package(2), Publish=True)
        self.assertEqual((changed["Version"], changed["FunctionArn"]), ("2", f"{self.arn}:2"))

    def test_lists(self):
        self.two_versions()
        listed = self.status(self.api.list_versions_by_function(FunctionName=self.name), 200)
        self.assertNotIn("NextMarker", listed)
        shown = [(version["Version"], version["FunctionArn"]) for version in listed["Versions"]]
        self.assertEqual(shown, [(v, f"{self.arn}:{v}") for v in ("$LATEST", "1", "2")])
        for member in ("State", "StateReason", "LastUpdateStatus", "RuntimeVersionConfig", "Tags"):
            self.assertNotIn(member, listed["Versions"][1])
        first = self.api.list_versions_by_function(FunctionName=self.name, MaxItems=2)
        second = self.api.list_versions_by_function(FunctionName=self.name, Marker=first["NextMarker"])
        self.assertEqual([v["Version"] for v in first["Versions"] + second["Versions"]], ["$LATEST", "1", "2"])
        pages = self.api.get_paginator("list_functions").paginate(FunctionVersion="ALL", PaginationConfig={"PageSize": 2})
        of_all = [f["FunctionArn"] for page in pages for f in page["Functions"] if f["FunctionName"] == self.name]
        self.assertEqual(of_all, [f"{self.arn}:{v}" for v in ("$LATEST", "1", "2")])
        plain = [f for page in self.api.get_paginator("list_functions").paginate() for f in page["Functions"]]
        self.assertEqual([f["FunctionArn"] for f in plain if f["FunctionName"] == self.name], [self.arn])

    def test_deletion(self):
        self.two_versions()
        self.status(self.api.delete_function(FunctionName=self.name, Qualifier="1"), 204)
        missing = f"Function not found: {self.arn}:1"
        for call in (self.api.get_function, self.api.get_function_configuration, self.api.invoke):
            self.refused("ResourceNotFoundException", 404, missing, call, FunctionName=self.name, Qualifier="1")
        # As AWS was recorded: a version that is not there is deleted already.
        self.status(self.api.delete_function(FunctionName=self.name, Qualifier="1"), 204)
        self.api.create_alias(FunctionName=self.name, Name="live", FunctionVersion="2")
        with self.assertRaises(self.api.exceptions.ResourceConflictException):
            self.api.delete_function(FunctionName=f"{self.name}:2")
        self.refused(
            "InvalidParameterValueException", 400, "$LATEST version cannot be deleted without deleting the function.",
            self.api.delete_function, FunctionName=self.name, Qualifier="$LATEST",
        )
        self.status(self.api.delete_function(FunctionName=self.name), 204)
        self.refused(
            "ResourceNotFoundException", 404, f"Function not found: {self.arn}:2",
            self.api.get_function, FunctionName=self.name, Qualifier="2",
        )
        self.create()
        self.assertEqual(self.api.publish_version(FunctionName=self.name)["Version"], "1")

    def test_refusals(self):
        created = self.create()
        wrong = "somenonexistentsha256"
        self.refused(
            "InvalidParameterValueException", 400,
            f"CodeSHA256 ({wrong}) is different from current CodeSHA256 in $LATEST ({created['CodeSha256']}). Please try "
            "again with the CodeSHA256 in $LATEST.",
            self.api.publish_version, FunctionName=self.name, CodeSha256=wrong,
        )
        self.refused(
            "PreconditionFailedException", 412,
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve "
            "the latest Revision Id",
            self.api.publish_version, FunctionName=self.name, RevisionId="another",
        )
        self.refused(
            "ResourceNotFoundException", 404, f"Function not found: {self.arn}x",
            self.api.publish_version, FunctionName=self.name + "x",
        )
        only = (
            "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
            "Please specify either a function name or an unqualified function ARN."
        )
        for call, options in (
            (self.api.update_function_configuration, {"Timeout": 4}),
            (self.api.put_function_concurrency, {"ReservedConcurrentExecutions": 1}),
        ):
            self.refused(
                "InvalidParameterValueException", 400, only, call, FunctionName=f"{self.name}:$LATEST", **options
            )
        right = self.api.publish_version(
            FunctionName=self.name, CodeSha256=created["CodeSha256"], RevisionId=created["RevisionId"]
        )
        self.assertEqual(right["Version"], "1")

    def test_what_is_reserved_is_shared(self):
        self.create(Publish=True)
        self.api.put_function_concurrency(FunctionName=self.name, ReservedConcurrentExecutions=0)
        self.refused("TooManyRequestsException", 429, "Rate Exceeded.", self.api.invoke, FunctionName=self.name, Qualifier="1")
        self.api.delete_function_concurrency(FunctionName=self.name)
        self.assertEqual(self.invoke("1")[0], "1")


class Aliases(Control):
    def test_life(self):
        self.two_versions()
        created = self.status(
            self.api.create_alias(FunctionName=self.name, Name="live", FunctionVersion="1", Description="what runs"), 201
        )
        revision = created.pop("RevisionId")
        self.assertRegex(revision, UUID)
        shape = {"AliasArn": f"{self.arn}:live", "Name": "live", "FunctionVersion": "1", "Description": "what runs"}
        self.assertEqual(created, shape)
        got = self.status(self.api.get_alias(FunctionName=self.name, Name="live"), 200)
        self.assertEqual(got, {**shape, "RevisionId": revision})
        version, value = self.invoke("live")
        self.assertEqual((version, value["version"], value["arn"]), ("1", "1", f"{self.arn}:live"))
        configuration = self.api.get_function_configuration(FunctionName=self.name, Qualifier="live")
        self.assertEqual((configuration["FunctionArn"], configuration["Version"]), (f"{self.arn}:live", "1"))
        weights = {"AdditionalVersionWeights": {"2": 1.0}}
        changed = self.status(
            self.api.update_alias(FunctionName=self.name, Name="live", RoutingConfig=weights, RevisionId=revision), 200
        )
        self.assertEqual(changed["RoutingConfig"], weights)
        self.assertEqual((changed["FunctionVersion"], changed["Description"]), ("1", "what runs"))
        self.assertNotEqual(changed["RevisionId"], revision)
        self.assertEqual(self.invoke("live")[1]["release"], 2)
        self.refused(
            "PreconditionFailedException", 412,
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve "
            "the latest Revision Id",
            self.api.update_alias, FunctionName=self.name, Name="live", RevisionId=revision,
        )
        changed = self.api.update_alias(FunctionName=self.name, Name="live", RoutingConfig={}, FunctionVersion="2")
        self.assertNotIn("RoutingConfig", changed)
        self.assertEqual(self.invoke(name=f"{self.arn}:live")[0], "2")
        for _ in range(2):
            self.status(self.api.delete_alias(FunctionName=self.name, Name="live"), 204)
        self.refused(
            "ResourceNotFoundException", 404, f"Cannot find alias arn: {self.arn}:live",
            self.api.get_alias, FunctionName=self.name, Name="live",
        )
        self.refused(
            "ResourceNotFoundException", 404, f"Function not found: {self.arn}:live",
            self.api.invoke, FunctionName=self.name, Qualifier="live",
        )

    def test_weights(self):
        self.two_versions()
        self.api.create_alias(
            FunctionName=self.name, Name="live", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}}
        )
        seen = [self.invoke("live") for _ in range(40)]
        self.assertEqual({version for version, _ in seen}, {"1", "2"}, "chance is 1 to 2^39")
        self.assertTrue(all(value["version"] == version == str(value["release"]) for version, value in seen))

    def test_lists(self):
        self.two_versions()
        for name, version in (("b", "1"), ("a", "2"), ("c", "1")):
            self.api.create_alias(FunctionName=self.name, Name=name, FunctionVersion=version)
        names = lambda **options: [a["Name"] for a in self.api.list_aliases(FunctionName=self.name, **options)["Aliases"]]
        self.assertEqual((names(), names(FunctionVersion="1"), names(FunctionVersion="9")), (["a", "b", "c"], ["b", "c"], []))
        first = self.api.list_aliases(FunctionName=self.name, MaxItems=1)
        self.assertEqual(names(Marker=first["NextMarker"]), ["b", "c"])

    def test_refusals(self):
        self.two_versions()
        create, missing = self.api.create_alias, f"Function not found: {self.arn}"
        self.api.create_alias(FunctionName=self.name, Name="live", FunctionVersion="1")
        weights = lambda **pairs: {"AdditionalVersionWeights": {name.strip("v"): w for name, w in pairs.items()}}
        where = "1 validation error detected: Value '%s' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map "
        for name, version, routing, status, code, message in (
            ("live", "1", None, 409, "ResourceConflictException", f"Alias already exists: {self.arn}:live"),
            ("new", "10", None, 404, "ResourceNotFoundException", missing + ":10"),
            ("new", "1", weights(v9=0.1), 404, "ResourceNotFoundException", missing + ":9"),
            (
                "2024", "1", None, 400, "ValidationException",
                "1 validation error detected: Value '2024' at 'name' failed to satisfy constraint: Member must satisfy "
                "regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)",
            ),
            (
                "new", "$LATEST", weights(v1=0.1), 400, "InvalidParameterValueException",
                "$LATEST is not supported for an alias pointing to more than 1 version",
            ),
            (
                "new", "1", weights(v1=0.1), 400, "InvalidParameterValueException",
                "Invalid function version 1. Function version 1 is already included in routing configuration.",
            ),
            (
                "new", "1", weights(v1=0.1, v2=0.1), 400, "InvalidParameterValueException",
                "Number of items in AdditionalVersionWeights cannot be greater than 1",
            ),
            (
                "new", "1", weights(v2=2.0), 400, "ValidationException",
                where % "{2=2.0}" + "value must satisfy constraint: [Member must have value less than or equal to 1.0, "
                "Member must have value greater than or equal to 0.0, Member must not be null]",
            ),
        ):
            options = {"RoutingConfig": routing} if routing else {}
            self.refused(code, status, message, create, FunctionName=self.name, Name=name, FunctionVersion=version, **options)
        self.refused(
            "ResourceNotFoundException", 404, f"Function not found: {self.arn}-unknown:1",
            create, FunctionName=self.name + "-unknown", Name="live", FunctionVersion="1",
        )
        self.refused(
            "ResourceNotFoundException", 404, f"Alias not found: {self.arn}:non-existent",
            self.api.update_alias, FunctionName=self.name, Name="non-existent", FunctionVersion="1",
        )
