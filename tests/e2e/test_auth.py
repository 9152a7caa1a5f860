"""A node with keys: whoever has none, or a wrong one, or one that is for something else, gets AWS's refusals."""

import io
import json
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request
import uuid
import zipfile
from pathlib import Path

import boto3
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from harness import BINARY, Node
from test_boto3 import ROLE, package

KEYS = """
[[auth.keys]]
id = "ADMIN"
secret = "s3cret/of+admin"

[[auth.keys]]
id = "CALLER"
secret = "another"
allow = ["lambda:Invoke*", "lambda:GetFunction", "lichen:InvokeFlow", "lichen:GetFlow"]
functions = ["open-*"]

[[auth.keys]]
id = "OTHER"
secret = "third"
account = "123456789012"
"""
SOURCE = "def handler(event, context):\n    return event\n"


class Auth(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        config = folder / "lichen.toml"
        config.write_text(KEYS)
        cls.node = cls.enterClassContext(Node("--config", config))
        cls.admin = cls.client("ADMIN", "s3cret/of+admin")
        for name in ("open-echo", "closed"):
            cls.admin.create_function(
                FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="app.handler", Code={"ZipFile": package(SOURCE)}
            )

    @classmethod
    def client(cls, key, secret, **options):
        return boto3.client(
            "lambda",
            endpoint_url=cls.node.endpoint,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}, **options),
        )

    def refused(self, code, call, **arguments):
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        error = caught.exception.response
        self.assertEqual((error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]), (code, 403))
        return error["Error"]["Message"]

    def test_the_right_key(self):
        answer = self.admin.invoke(FunctionName="open-echo", Payload=b'{"a": "\xc3\xa9"}')
        self.assertEqual(json.load(answer["Payload"]), {"a": "é"})
        arn = self.admin.get_function(FunctionName="open-echo")["Configuration"]["FunctionArn"]
        self.assertEqual(self.admin.get_function(FunctionName=arn)["Configuration"]["FunctionName"], "open-echo")
        self.assertEqual(len(self.admin.list_functions(MaxItems=1)["Functions"]), 1)

    def test_wrong_keys(self):
        wrong = self.client("ADMIN", "wrong")
        self.assertIn("does not match", self.refused("InvalidSignatureException", wrong.list_functions))
        self.refused("InvalidSignatureException", wrong.invoke, FunctionName="open-echo", Payload=b"{}")
        self.refused("UnrecognizedClientException", self.client("NOBODY", "x").list_functions)

    def test_unsigned(self):
        for path in ("/2015-03-31/functions", "/2015-03-31/functions/open-echo", "/v1/node", "/metrics"):
            with self.assertRaises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(self.node.endpoint + path)
            self.assertEqual(caught.exception.code, 403, path)
            self.assertEqual(caught.exception.headers["x-amzn-errortype"], "MissingAuthenticationTokenException")
        for path in ("/healthz", "/readyz"):
            self.assertEqual(urllib.request.urlopen(self.node.endpoint + path).status, 200)

    def send(self, body, signed_body, key="ADMIN", secret="s3cret/of+admin", signer=SigV4Auth, **headers):
        url = f"{self.node.endpoint}/2015-03-31/functions/open-echo/invocations?Qualifier=%24LATEST"
        request = AWSRequest("POST", url, data=signed_body, headers=headers)
        options = (60,) if signer is SigV4QueryAuth else ()
        signer(Credentials(key, secret), "lambda", "us-east-1", *options).add_auth(request)
        prepared = request.prepare()
        real = urllib.request.Request(prepared.url, data=body, headers=dict(prepared.headers), method="POST")
        try:
            return urllib.request.urlopen(real).status
        except urllib.error.HTTPError as error:
            return error.code

    def post(self, path, body, key, secret):
        request = AWSRequest("POST", self.node.endpoint + path, data=body)
        SigV4Auth(Credentials(key, secret), "lambda", "us-east-1").add_auth(request)
        try:
            return urllib.request.urlopen(urllib.request.Request(request.url, body, dict(request.headers))).status
        except urllib.error.HTTPError as error:
            return error.code

    def get(self, path, key, secret, **headers):
        """The status of a GET that is signed but for these headers."""
        url = self.node.endpoint + path
        request = AWSRequest("GET", url)
        SigV4Auth(Credentials(key, secret), "lambda", "us-east-1").add_auth(request)
        try:
            return urllib.request.urlopen(urllib.request.Request(url, headers={**dict(request.headers), **headers})).status
        except urllib.error.HTTPError as error:
            return error.code

    def test_a_slash_at_a_paths_end_names_no_function(self):
        path = "/2015-03-31/functions/"
        self.assertEqual(self.get(path, "ADMIN", "s3cret/of+admin"), 200)
        self.assertEqual(self.get(path, "CALLER", "another"), 403)

    def test_keys_for_some_names_reach_the_flows_of_these_names(self):
        admin, caller = ("ADMIN", "s3cret/of+admin"), ("CALLER", "another")
        for name in ("open-flow", "closed-flow"):
            flow = json.dumps({"name": name, "text": "flow f(I) => (I) {}"}).encode()
            self.assertEqual((self.post("/v1/flows", flow, *caller), self.post("/v1/flows", flow, *admin)), (403, 200))
        paths = [f"/v1/flows/{name}/invoke" for name in ("open-flow", "closed-flow")]
        self.assertEqual([self.post(path, b"x", *caller) for path in paths], [200, 403])
        self.assertEqual([self.get(f"/v1/flows/{name}", *caller) for name in ("open-flow", "closed-flow")], [200, 403])
        self.assertEqual([self.get(path, *caller) for path in ("/v1/flows", "/v1/flows/open-flow/runs")], [403, 403])

    def test_what_is_asked_is_signed(self):
        path = "/2015-03-31/functions/open-echo"
        added = {"X-Amz-Tenant-Id": "other"}
        self.assertEqual(self.get(path, "ADMIN", "s3cret/of+admin"), 200)
        self.assertEqual(self.get(path, "ADMIN", "s3cret/of+admin", **added), 403)

    def test_who_may_not_call_does_not_learn_what_there_is(self):
        for name in ("closed", "nowhere"):
            with self.assertRaises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{self.node.endpoint}/f/{name}/")
            with caught.exception as answer:
                self.assertEqual((answer.code, json.load(answer)["Message"][:9]), (403, "Forbidden"))

    def test_a_body_that_was_changed(self):
        self.assertEqual(self.send(b'{"a": 1}', b'{"a": 1}'), 200)
        self.assertEqual(self.send(b'{"a": 2}', b'{"a": 1}'), 403)

    def test_a_signature_from_long_ago(self):
        url = f"{self.node.endpoint}/2015-03-31/functions"
        request = AWSRequest("GET", url)
        SigV4Auth(Credentials("ADMIN", "s3cret/of+admin"), "lambda", "us-east-1").add_auth(request)
        headers = dict(request.headers) | {"X-Amz-Date": "20200101T000000Z"}
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(url, headers=headers))
        self.assertEqual(caught.exception.code, 403)

    def test_signed_ahead(self):
        self.assertEqual(self.send(b"{}", b"{}", signer=SigV4QueryAuth), 200)
        self.assertEqual(self.send(b"{}", b"{}", secret="wrong", signer=SigV4QueryAuth), 403)

    def test_a_functions_code_is_got_by_a_link_that_needs_no_key_and_opens_nothing_else(self):
        caller = self.client("CALLER", "another")
        link = caller.get_function(FunctionName="open-echo")["Code"]["Location"]
        with urllib.request.urlopen(link) as answer, zipfile.ZipFile(io.BytesIO(answer.read())) as code:
            self.assertEqual(code.read("app.py").decode(), SOURCE)
        self.assertIn("X-Amz-Expires=600&", link)
        bare, query = link.split("?")
        others = [f"{self.node.endpoint}{path}?{query}" for path in ("/v1/node", "/2015-03-31/functions/open-echo")]
        others += [bare, link.replace("Expires=600", "Expires=601"), link[:-1] + ("0" if link[-1] != "0" else "1")]
        for other in others:
            with self.assertRaises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(other)
            with caught.exception as answer:
                self.assertEqual(answer.code, 403, other)
        layer = self.admin.publish_layer_version(LayerName="linked", Content={"ZipFile": package(SOURCE)})
        with urllib.request.urlopen(layer["Content"]["Location"]) as answer:
            self.assertEqual(len(answer.read()), layer["Content"]["CodeSize"])

    def test_a_narrow_key(self):
        caller = self.client("CALLER", "another")
        self.assertEqual(caller.invoke(FunctionName="open-echo")["StatusCode"], 200)
        self.assertIn("lambda:InvokeFunction", self.refused("AccessDeniedException", caller.invoke, FunctionName="closed"))
        self.refused("AccessDeniedException", caller.delete_function, FunctionName="open-echo")
        self.refused("AccessDeniedException", caller.list_functions)
        self.refused(
            "AccessDeniedException",
            caller.create_function,
            FunctionName="open-new",
            Role=ROLE,
            Runtime="python3.11",
            Handler="app.handler",
            Code={"ZipFile": package(SOURCE)},
        )

    def test_accounts_are_apart(self):
        other = self.client("OTHER", "third")
        self.assertEqual(other.list_functions()["Functions"], [])
        arn = self.admin.get_function(FunctionName="closed")["Configuration"]["FunctionArn"]
        for name in (arn, "000000000000:function:closed"):
            self.refused("AccessDeniedException", other.invoke, FunctionName=name)
        with self.assertRaises(other.exceptions.ResourceNotFoundException):
            other.get_function(FunctionName="closed")

    def permit(self, sid, name="closed", **options):
        defaults = {"Action": "lambda:InvokeFunction", "Principal": "123456789012"}
        self.admin.add_permission(FunctionName=name, StatementId=sid, **{**defaults, **options})
        self.addCleanup(self.admin.remove_permission, FunctionName=name, StatementId=sid)

    def test_a_policy_lets_another_account_call_and_nothing_more(self):
        other = self.client("OTHER", "third")
        arn = "arn:aws:lambda:us-east-1:000000000000:function:closed"
        self.assertEqual(
            self.refused("AccessDeniedException", other.invoke, FunctionName=arn),
            "User: arn:aws:iam::123456789012:user/OTHER is not authorized to perform: lambda:InvokeFunction on resource: "
            f"{arn} because no resource-based policy allows the lambda:InvokeFunction action",
        )
        self.permit("other")
        for kind in ("RequestResponse", "Event", "DryRun"):
            self.assertIn(other.invoke(FunctionName=arn, InvocationType=kind)["StatusCode"], (200, 202, 204))
        self.assertEqual(json.load(other.invoke(FunctionName=arn, Payload=b'{"a": 1}')["Payload"]), {"a": 1})
        self.refused("AccessDeniedException", other.get_function, FunctionName=arn)
        # A statement on the function says nothing of its versions.
        version = self.admin.publish_version(FunctionName="closed")["Version"]
        self.refused("AccessDeniedException", other.invoke, FunctionName=f"{arn}:{version}")

    def test_a_policy_lets_a_narrow_key_call(self):
        caller = self.client("CALLER", "another")
        arn = "arn:aws:lambda:us-east-1:000000000000:function:closed"
        self.assertEqual(
            self.refused("AccessDeniedException", caller.invoke, FunctionName="closed"),
            "User: arn:aws:iam::000000000000:user/CALLER is not authorized to perform: lambda:InvokeFunction on resource: "
            f"{arn} because no identity-based policy allows the lambda:InvokeFunction action",
        )
        # The account itself may: whom in it, its keys say.
        self.permit("account", Principal="000000000000")
        self.refused("AccessDeniedException", caller.invoke, FunctionName="closed")
        self.permit("user", Principal="arn:aws:iam::000000000000:user/CALLER")
        self.assertEqual(caller.invoke(FunctionName="closed")["StatusCode"], 200)

    def test_a_denial_goes_first(self):
        arn = "arn:aws:lambda:us-east-1:000000000000:function:open-echo"
        deny = {"Effect": "Deny", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": arn}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
        self.admin.put_resource_policy(ResourceArn=arn, Policy=policy)
        try:
            message = self.refused("AccessDeniedException", self.admin.invoke, FunctionName="open-echo")
            self.assertTrue(message.endswith(f"on resource: {arn} with an explicit deny in a resource-based policy"), message)
        finally:
            self.admin.delete_resource_policy(ResourceArn=arn)
        self.assertEqual(self.admin.invoke(FunctionName="open-echo")["StatusCode"], 200)

    def status(self, url, key=None, secret=None):
        headers = {}
        if key:
            request = AWSRequest("GET", url)
            SigV4Auth(Credentials(key, secret), "lambda", "us-east-1").add_auth(request)
            headers = dict(request.headers)
        try:
            return urllib.request.urlopen(urllib.request.Request(url, headers=headers)).status
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 403:
                    self.assertIn("Message", json.load(error))
                return error.code

    def test_urls_ask_policies(self):
        made = self.admin.create_function_url_config(FunctionName="closed", AuthType="NONE")["FunctionUrl"]
        self.addCleanup(self.admin.delete_function_url_config, FunctionName="closed")
        path = f"{self.node.endpoint}/_aws/lambda-url/{made.split('//')[1].split('.')[0]}/"
        named = f"{self.node.endpoint}/f/closed/"
        self.assertEqual((self.status(path), self.status(named)), (403, 403))
        self.assertEqual(self.status(named, "ADMIN", "s3cret/of+admin"), 200)
        self.assertEqual(self.status(named, "CALLER", "another"), 403)
        self.permit("public", Action="lambda:InvokeFunctionUrl", Principal="*", FunctionUrlAuthType="NONE")
        self.assertEqual((self.status(path), self.status(named)), (200, 200))
        self.admin.update_function_url_config(FunctionName="closed", AuthType="AWS_IAM")
        self.assertEqual(self.status(path), 403)
        self.assertEqual(self.status(path, "OTHER", "third"), 403)
        self.permit("other", Action="lambda:InvokeFunctionUrl", FunctionUrlAuthType="AWS_IAM")
        self.assertEqual(self.status(path, "OTHER", "third"), 200)

    def test_logs_refuse_in_their_own_form(self):
        for key, secret, kind in (("ADMIN", "wrong", "InvalidSignatureException"), ("CALLER", "another", "AccessDeniedException")):
            logs = boto3.client(
                "logs", endpoint_url=self.node.endpoint, region_name="us-east-1", aws_access_key_id=key,
                aws_secret_access_key=secret, config=Config(retries={"total_max_attempts": 1}),
            )
            with self.assertRaises(ClientError) as caught:
                logs.describe_log_groups()
            answer = caught.exception.response
            self.assertEqual((answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]), (kind, 400))
            self.assertEqual(answer["ResponseMetadata"]["HTTPHeaders"]["content-type"], "application/x-amz-json-1.1")

    def test_function_urls(self):
        url = self.admin.create_function_url_config(FunctionName="open-echo", AuthType="AWS_IAM")["FunctionUrl"]
        path = f"{self.node.endpoint}/_aws/lambda-url/{url.split('//')[1].split('.')[0]}/"
        for secret, status in (("s3cret/of+admin", 200), ("wrong", 403)):
            request = AWSRequest("GET", path)
            SigV4Auth(Credentials("ADMIN", secret), "lambda", "us-east-1").add_auth(request)
            try:
                answer = urllib.request.urlopen(urllib.request.Request(path, headers=dict(request.headers))).status
            except urllib.error.HTTPError as error:
                answer = error.code
            self.assertEqual(answer, status)
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(path)
        self.assertEqual(caught.exception.code, 403)

    def test_the_command_line(self):
        def run(**keys):
            line = [BINARY, "invoke", "open-echo", "-d", '{"x": 1}', "--endpoint", self.node.endpoint]
            return subprocess.run(line, env={"PATH": "/usr/bin:/bin", **keys}, capture_output=True, text=True)

        right = run(LICHEN_ACCESS_KEY_ID="ADMIN", LICHEN_SECRET_ACCESS_KEY="s3cret/of+admin")
        self.assertEqual((right.returncode, json.loads(right.stdout)), (0, {"x": 1}), right.stderr)
        without = run()
        self.assertEqual(without.returncode, 2, without.stderr)
        self.assertIn("Missing Authentication Token", without.stderr)

    def test_secrets_are_not_logged(self):
        self.assertNotIn("s3cret", self.node.log())


if __name__ == "__main__":
    unittest.main()
