"""Layers: published, shared, and seen at /opt by Python and Node functions."""

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tempfile
import unittest
import urllib.request
import uuid
import zipfile
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cloud import Cloud, node
from harness import Node
from test_control import DATE, ENDPOINT, ROLE, UUID, Control

PYTHON = """
import ctypes, os, shutil, subprocess, sys
import shared, placed
def handler(event, context):
    return {"shared": shared.NAME, "placed": placed.NAME, "opt": sorted(os.listdir("/opt")), "tool": shutil.which("tool"),
            "ran": subprocess.run(["tool"], capture_output=True, text=True).stdout, "path": sys.path[:3], "library": %s,
            "writable": os.access("/opt", os.W_OK)}
"""
# A thread that does not end: its template cannot be forked from, and instances load the function themselves.
RESTLESS = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
SITE = "python/lib/python3.11/site-packages/placed.py"


def zipped(files):
    bytes_ = io.BytesIO()
    with zipfile.ZipFile(bytes_, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, content)
    return bytes_.getvalue()


def library():
    """A shared library with one function, where there is a compiler."""
    if not shutil.which("gcc"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "answer.c"
        source.write_text("int answer(void) { return 42; }\n")
        subprocess.run(["gcc", "-shared", "-o", f"{folder}/libanswer.so", source], check=True)
        return (Path(folder) / "libanswer.so").read_bytes()


class Layers(Control):
    def setUp(self):
        super().setUp()
        self.layer = f"layer-{uuid.uuid4().hex[:12]}"
        self.layer_arn = f"arn:aws:lambda:us-east-1:000000000000:layer:{self.layer}"

    def publish(self, files, name=None, **options):
        published = self.api.publish_layer_version(
            LayerName=name or self.layer, Content={"ZipFile": zipped(files)}, **options
        )
        self.addCleanup(self.api.delete_layer_version, LayerName=name or self.layer, VersionNumber=published["Version"])
        return published

    def answer(self, event=None):
        reply = self.api.invoke(FunctionName=self.name, Payload=json.dumps(event or {}))
        value = json.load(reply["Payload"])
        self.assertNotIn("FunctionError", reply, value)
        return value


class Life(Layers):
    def test_what_is_published_is_answered(self):
        files = {"python/shared.py": "NAME = 1\n"}
        said = {
            "Description": "what it is", "LicenseInfo": "MIT", "CompatibleRuntimes": ["python3.11", "python3.12"],
            "CompatibleArchitectures": ["x86_64"],
        }
        first = self.status(self.publish(files, **said), 201)
        zip_ = zipped(files)
        self.assertRegex(first["CreatedDate"], DATE)
        location = first["Content"].pop("Location")
        expected = {
            "Content": {"CodeSha256": base64.b64encode(hashlib.sha256(zip_).digest()).decode(), "CodeSize": len(zip_)},
            "LayerArn": self.layer_arn, "LayerVersionArn": f"{self.layer_arn}:1", "Version": 1,
            "CreatedDate": first["CreatedDate"], **said,
        }
        self.assertEqual(first, expected)
        with urllib.request.urlopen(location) as file:
            self.assertEqual(file.read(), zip_)
        for got in (
            self.api.get_layer_version(LayerName=self.layer, VersionNumber=1),
            self.api.get_layer_version(LayerName=self.layer_arn, VersionNumber=1),
            self.api.get_layer_version_by_arn(Arn=f"{self.layer_arn}:1"),
        ):
            got = self.status(got, 200)
            got["Content"].pop("Location")
            self.assertEqual(got, expected)
        plain = self.status(self.publish({"x": "y"}), 201)
        self.assertEqual((plain["Version"], plain["Description"]), (2, ""))
        for absent in ("LicenseInfo", "CompatibleRuntimes", "CompatibleArchitectures"):
            self.assertNotIn(absent, plain)

    def test_lists(self):
        self.publish({"a": "1"}, CompatibleRuntimes=["python3.11"], CompatibleArchitectures=["x86_64"])
        self.publish({"a": "2"}, CompatibleRuntimes=["nodejs20.x"])
        versions = self.status(self.api.list_layer_versions(LayerName=self.layer), 200)
        self.assertEqual([version["Version"] for version in versions["LayerVersions"]], [2, 1])
        self.assertEqual(set(versions), {"LayerVersions"})
        python = self.api.list_layer_versions(LayerName=self.layer, CompatibleRuntime="python3.11")["LayerVersions"]
        self.assertEqual(
            python,
            [{
                "LayerVersionArn": f"{self.layer_arn}:1", "Version": 1, "Description": "", "CreatedDate": python[0]["CreatedDate"],
                "CompatibleRuntimes": ["python3.11"], "CompatibleArchitectures": ["x86_64"],
            }],
        )
        one = self.api.list_layer_versions(LayerName=self.layer, MaxItems=1)
        self.assertEqual([version["Version"] for version in one["LayerVersions"]], [2])
        rest = self.api.list_layer_versions(LayerName=self.layer, MaxItems=1, Marker=one["NextMarker"])
        self.assertEqual([version["Version"] for version in rest["LayerVersions"]], [1])
        self.assertNotIn("NextMarker", rest)
        pages = self.api.get_paginator("list_layers").paginate(CompatibleRuntime="python3.11")
        mine = [layer for page in pages for layer in page["Layers"] if layer["LayerName"] == self.layer]
        self.assertEqual(len(mine), 1)
        self.assertEqual((mine[0]["LayerArn"], mine[0]["LatestMatchingVersion"]["Version"]), (self.layer_arn, 1))
        self.assertEqual(self.api.list_layer_versions(LayerName="none")["LayerVersions"], [])

    def test_a_deleted_version_is_gone_but_its_number_stays_taken(self):
        self.publish({"a": "1"})
        self.assertEqual(self.status(self.api.delete_layer_version(LayerName=self.layer, VersionNumber=1), 204), {})
        self.assertEqual(self.status(self.api.delete_layer_version(LayerName=self.layer, VersionNumber=1), 204), {})
        self.refused(
            "ResourceNotFoundException", 404, "The resource you requested does not exist.",
            self.api.get_layer_version, LayerName=self.layer, VersionNumber=1,
        )
        self.refused(
            "InvalidParameterValueException", 400, "Layer Version Cannot be less than 1",
            self.api.get_layer_version, LayerName=self.layer, VersionNumber=0,
        )
        self.assertEqual(self.publish({"a": "1"})["Version"], 2)

    def test_refusals(self):
        with self.assertRaisesRegex(self.api.exceptions.InvalidParameterValueException, "Could not unzip uploaded file"):
            self.api.publish_layer_version(LayerName=self.layer, Content={"ZipFile": b"no zip"})
        status, answer = self.http("GET", "/2018-10-31/layers?find=LayerVersion&Arn=arn%3Aaws%3Alambda%3Ax")
        self.assertEqual(status, 400)
        self.assertIn("Value 'arn:aws:lambda:x' at 'arn' failed to satisfy constraint: Member must satisfy", answer["message"])


class Policies(Layers):
    def other(self):
        return boto3.client(
            "lambda", endpoint_url=ENDPOINT, region_name="us-east-1", aws_access_key_id="111111111111",
            aws_secret_access_key="x", config=Config(retries={"max_attempts": 0}),
        )

    def add(self, sid, **options):
        defaults = {"LayerName": self.layer, "VersionNumber": 1, "Action": "lambda:GetLayerVersion", "Principal": "*"}
        return self.api.add_layer_version_permission(StatementId=sid, **{**defaults, **options})

    def test_life(self):
        self.publish({"a": "1"})
        self.refused(
            "ResourceNotFoundException", 404, "No policy is associated with the given resource.",
            self.api.get_layer_version_policy, LayerName=self.layer, VersionNumber=1,
        )
        added = self.status(self.add("one", Principal="111111111111"), 201)
        self.assertRegex(added["RevisionId"], UUID)
        statement = {
            "Sid": "one", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
            "Action": "lambda:GetLayerVersion", "Resource": f"{self.layer_arn}:1",
        }
        self.assertEqual(json.loads(added["Statement"]), statement)
        got = self.status(self.api.get_layer_version_policy(LayerName=self.layer, VersionNumber=1), 200)
        self.assertEqual(
            json.loads(got["Policy"]), {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
        )
        self.assertEqual(got["RevisionId"], added["RevisionId"])
        self.refused(
            "ResourceConflictException", 409,
            "The statement id (one) provided already exists. Please provide a new statement id, or remove the existing "
            "statement.",
            self.add, sid="one",
        )
        self.refused(
            "PreconditionFailedException", 412,
            "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the "
            "latest Revision Id",
            self.add, sid="two", RevisionId="nonsense",
        )
        remove = self.api.remove_layer_version_permission
        self.refused(
            "ResourceNotFoundException", 404, "Statement two is not found in resource policy.",
            remove, LayerName=self.layer, VersionNumber=1, StatementId="two",
        )
        self.refused(
            "ResourceNotFoundException", 404, f"Layer version {self.layer_arn}:2 does not exist.",
            remove, LayerName=self.layer, VersionNumber=2, StatementId="one",
        )
        self.assertEqual(self.status(remove(LayerName=self.layer, VersionNumber=1, StatementId="one"), 204), {})

    def test_other_accounts_use_what_they_may(self):
        self.publish({"a": "1"})
        other, arn = self.other(), f"{self.layer_arn}:1"
        refusal = (
            "User: arn:aws:iam::111111111111:root is not authorized to perform: lambda:GetLayerVersion on resource: "
            f"{arn} because no resource-based policy allows the lambda:GetLayerVersion action"
        )
        self.refused("AccessDeniedException", 403, refusal, other.get_layer_version_by_arn, Arn=arn)
        settings = {
            "FunctionName": self.name, "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler", "Layers": [arn],
            "Code": {"ZipFile": zipped({"app.py": "def handler(e, c): pass"})},
        }
        self.refused("AccessDeniedException", 403, refusal, other.create_function, **settings)
        # Another account's may be used at most, never changed.
        self.refused(
            "AccessDeniedException", 403, refusal.replace("GetLayerVersion", "DeleteLayerVersion").replace(arn, self.layer_arn),
            other.delete_layer_version, LayerName=self.layer_arn, VersionNumber=1,
        )
        for call, options in (
            (other.publish_layer_version, {"Content": {"ZipFile": zipped({"a": "2"})}}),
            (other.add_layer_version_permission, {"VersionNumber": 1, "StatementId": "x", "Action": "lambda:GetLayerVersion", "Principal": "*"}),
            (other.get_layer_version_policy, {"VersionNumber": 1}),
            (other.list_layer_versions, {}),
        ):
            with self.assertRaisesRegex(ClientError, "AccessDeniedException"):
                call(LayerName=self.layer_arn, **options)
        self.add("all")
        self.assertEqual(other.get_layer_version_by_arn(Arn=arn)["LayerVersionArn"], arn)
        created = other.create_function(**settings)
        self.addCleanup(other.delete_function, FunctionName=self.name)
        self.assertEqual(created["Layers"][0]["Arn"], arn)


class Use(Layers):
    def two_layers(self):
        tool = self.publish({
            "python/shared.py": "NAME = 'first'\n", SITE: "NAME = 'first'\n", "bin/tool": "#!/bin/sh\necho from-the-layer\n",
        })
        other = {"python/shared.py": "NAME = 'second'\n"}
        self.library = library()
        if self.library:
            other["lib/libanswer.so"] = self.library
        second = self.publish(other, name=f"{self.layer}-2")
        return [tool["LayerVersionArn"], second["LayerVersionArn"]]

    def python(self, front=""):
        layers = self.two_layers()
        call = "ctypes.CDLL('libanswer.so').answer()" if self.library else "None"
        code = zipped({"app.py": front + PYTHON % call})
        created = self.create(Code={"ZipFile": code}, Layers=layers, Timeout=30, MemorySize=256)
        self.assertEqual([layer["Arn"] for layer in created["Layers"]], layers)
        self.assertEqual({member for layer in created["Layers"] for member in layer}, {"Arn", "CodeSize"})
        opt = ["bin", "lib", "python"] if self.library else ["bin", "python"]
        expected = {
            "shared": "second", "placed": "first", "opt": opt, "tool": "/opt/bin/tool", "ran": "from-the-layer\n",
            "path": ["/var/task", "/opt/python/lib/python3.11/site-packages", "/opt/python"],
            "library": 42 if self.library else None, "writable": False,
        }
        for _ in range(3):
            self.assertEqual(self.answer(), expected)
        return layers

    def test_python(self):
        layers = self.python()
        # Gone for new functions, kept for this one.
        self.api.delete_layer_version(LayerName=self.layer, VersionNumber=1)
        self.assertEqual(self.answer()["placed"], "first")
        self.refused(
            "InvalidParameterValueException", 400, f"Layer version {layers[0]} does not exist.",
            self.api.update_function_configuration, FunctionName=self.name, Layers=layers,
        )
        self.api.update_function_configuration(FunctionName=self.name, Layers=[])
        self.assertNotIn("Layers", self.api.get_function_configuration(FunctionName=self.name))
        reply = self.api.invoke(FunctionName=self.name)
        self.assertIn("No module named 'shared'", json.load(reply["Payload"])["errorMessage"])

    def test_python_that_no_template_can_load(self):
        self.python(RESTLESS)

    def test_node(self):
        layer = self.publish({
            "nodejs/node_modules/plain/index.js": "exports.name = 'plain';",
            "nodejs/node20/node_modules/versioned/index.js": "exports.name = 'versioned';",
        })
        app = """
            const plain = require('plain'), versioned = process.version.startsWith('v20.') && require('versioned');
            exports.handler = async () => [plain.name, versioned ? versioned.name : 'versioned'];
        """
        for front in ("", "setInterval(() => 0, 1000);"):
            with self.subTest(front=front):
                code = zipped({"index.js": front + app})
                self.create(
                    Code={"ZipFile": code}, Runtime="nodejs20.x", Handler="index.handler", Timeout=30, MemorySize=256,
                    Layers=[layer["LayerVersionArn"]],
                )
                for _ in range(3):
                    self.assertEqual(self.answer(), ["plain", "versioned"])
                self.delete(self.name)

    def test_refusals(self):
        code = {"ZipFile": zipped({"app.py": "def handler(e, c): pass"})}
        create = dict(FunctionName=self.name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code=code)
        refused = lambda message, layers: self.refused(  # noqa: E731
            "InvalidParameterValueException", 400, message, self.api.create_function, **create, Layers=layers
        )
        [one, two] = [self.publish({"a": str(n)})["LayerVersionArn"] for n in range(2)]
        refused(f"Layer version {self.layer_arn}:9 does not exist.", [f"{self.layer_arn}:9"])
        refused("Cannot reference more than 5 layers.", [f"{one}"] * 6)
        refused(
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{one} and {two} are versions of the same layer.",
            [one, two],
        )
        refused(
            "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.",
            [one.replace("us-east-1", "eu-west-1")],
        )
        with self.assertRaisesRegex(
            self.api.exceptions.ClientError,
            r"Value '\[arn:.*\]' at 'layers' failed to satisfy constraint: Member must satisfy constraint: "
            r"\[Member must have length less than or equal to 2048",
        ):
            self.api.create_function(**create, Layers=[self.layer_arn])

    def test_code_and_layers_together_have_a_limit(self):
        half = bytes(140_000_000)
        bytes_ = io.BytesIO()
        with zipfile.ZipFile(bytes_, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("python/half", half)
        layer = self.api.publish_layer_version(LayerName=self.layer, Content={"ZipFile": bytes_.getvalue()})
        self.addCleanup(self.api.delete_layer_version, LayerName=self.layer, VersionNumber=1)
        self.refused(
            "InvalidParameterValueException", 400,
            "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is "
            "280000000 bytes.",
            self.api.create_function, FunctionName=self.name, Runtime="python3.11", Role=ROLE, Handler="app.handler",
            Code={"ZipFile": bytes_.getvalue()}, Layers=[layer["LayerVersionArn"]],
        )


class Elsewhere(unittest.TestCase):
    def test_a_layer_from_s3(self):
        with Cloud() as cloud:
            own = node(self, cloud)
            s3, zip_ = cloud.client("s3"), zipped({"python/shared.py": "NAME = 's3'\n"})
            s3.create_bucket(Bucket="layers")
            s3.put_object(Bucket="layers", Key="shared.zip", Body=zip_)
            publish = own.client().publish_layer_version
            made = publish(LayerName="shared", Content={"S3Bucket": "layers", "S3Key": "shared.zip"})
            self.assertEqual(made["Content"]["CodeSize"], len(zip_))
            with self.assertRaisesRegex(ClientError, "Error occurred while GetObject. S3 Error Code: NoSuchKey."):
                publish(LayerName="shared", Content={"S3Bucket": "layers", "S3Key": "none.zip"})

    def test_a_node_that_starts_again_has_its_layers(self):
        with tempfile.TemporaryDirectory() as folder:
            with Node(folder=folder) as own:
                api = own.client()
                arns = [
                    api.publish_layer_version(LayerName=name, Content={"ZipFile": zipped({f"python/{name}.py": "N = 1\n"})})
                    for name in ("one", "two")
                ]
                api.create_function(
                    FunctionName="f", Runtime="python3.11", Role=ROLE, Handler="app.handler",
                    Layers=[layer["LayerVersionArn"] for layer in arns],
                    Code={"ZipFile": zipped({"app.py": "import one, two\ndef handler(e, c): return one.N + two.N"})},
                )
                api.delete_layer_version(LayerName="one", VersionNumber=1)
            with Node(folder=folder) as own:
                api = own.client()
                self.assertEqual(json.load(api.invoke(FunctionName="f")["Payload"]), 2)
                self.assertEqual([layer["LayerName"] for layer in api.list_layers()["Layers"]], ["two"])
                again = api.publish_layer_version(LayerName="one", Content={"ZipFile": zipped({"x": ""})})
                self.assertEqual(again["Version"], 2)


if __name__ == "__main__":
    unittest.main()
