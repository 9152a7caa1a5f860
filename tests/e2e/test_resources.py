"""What hangs on functions (tags, policies, URLs, configurations) by AWS's Python client: member by member, word by word."""

import json
import re
import time
import urllib.error
import urllib.request

from test_control import DATE, ENDPOINT, UUID, Control


class Model(Control):
    # Not there yet, and refused as unknown.
    LATER = set()

    def test_every_operation_of_the_model_is_known(self):
        """Whatever botocore can ask for is answered by an operation of the node, if only with the reason why not."""
        for name in self.api.meta.service_model.operation_names:
            http = self.api.meta.service_model.operation_model(name).http
            path = re.sub(r"\{\w+\}", "x", http["requestUri"])
            request = urllib.request.Request(ENDPOINT + path, b"{}", method=http["method"])
            try:
                with urllib.request.urlopen(request) as answer:
                    status, kind = answer.status, ""
            except urllib.error.HTTPError as error:
                with error:
                    status, kind = error.code, error.headers.get("x-amzn-ErrorType", "")
            with self.subTest(name):
                self.assertNotEqual(status, 405)
                self.assertNotEqual(status, 500)
                self.assertEqual(kind == "UnknownOperationException", name in self.LATER, f"{http['method']} {path}: {status}")


    def test_what_is_not_there_is_not_there(self):
        self.assertEqual(self.status(self.api.list_event_source_mappings(), 200), {"EventSourceMappings": []})
        self.refused(
            "ResourceNotFoundException", 404, "Layer version arn:aws:lambda:us-east-1:000000000000:layer:l:1 does not exist.",
            self.api.remove_layer_version_permission, LayerName="l", VersionNumber=1, StatementId="s",
        )


class Tags(Control):
    def test_life(self):
        self.create(Tags={"a": "1"})
        self.status(self.api.tag_resource(Resource=self.arn, Tags={"b": "2", "c": "3"}), 204)
        self.status(self.api.untag_resource(Resource=self.arn, TagKeys=["a", "c", "x"]), 204)
        self.assertEqual(self.status(self.api.list_tags(Resource=self.arn), 200), {"Tags": {"b": "2"}})
        self.assertEqual(self.api.get_function(FunctionName=self.name)["Tags"], {"b": "2"})
        self.api.untag_resource(Resource=self.arn, TagKeys=["b"])
        self.assertEqual(self.api.list_tags(Resource=self.arn)["Tags"], {})
        self.assertNotIn("Tags", self.api.get_function(FunctionName=self.name))

    def test_refusals(self):
        self.create()
        tag = self.api.tag_resource
        self.refused(
            "InvalidParameterValueException", 400,
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
            tag, Resource=f"{self.arn}:1", Tags={"a": "1"},
        )
        self.refused(
            "ResourceNotFoundException", 404, f"Function not found: {self.arn}x", self.api.list_tags, Resource=self.arn + "x"
        )
        self.refused(
            "InvalidParameterValueException", 400, "Number of tags exceeds resource tag limit.",
            tag, Resource=self.arn, Tags={str(n): "" for n in range(51)},
        )
        self.refused(
            "ValidationException", 400,
            "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null",
            self.api.untag_resource, Resource=self.arn, TagKeys=[],
        )
        status, answer = self.http("GET", "/2017-03-31/tags/arn%3Aaws%3Asomething")
        self.assertEqual(status, 400)
        self.assertTrue(answer["message"].startswith("1 validation error detected: Value 'arn:aws:something' at 'resource' failed"))


class Permissions(Control):
    def add(self, sid, **options):
        defaults = {"FunctionName": self.name, "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
        return self.api.add_permission(StatementId=sid, **{**defaults, **options})

    def policy(self, **options):
        answer = self.status(self.api.get_policy(FunctionName=self.name, **options), 200)
        self.assertRegex(answer["RevisionId"], UUID)
        return json.loads(answer["Policy"]), answer["RevisionId"]

    def test_life(self):
        self.create()
        self.refused(
            "ResourceNotFoundException", 404, "The resource you requested does not exist.",
            self.api.get_policy, FunctionName=self.name,
        )
        added = self.status(self.add("s3", SourceArn="arn:aws:s3:::bucket", SourceAccount="123456789012"), 201)
        statement = {
            "Sid": "s3", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "lambda:InvokeFunction",
            "Resource": self.arn,
            "Condition": {
                "StringEquals": {"AWS:SourceAccount": "123456789012"}, "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"}
            },
        }
        self.assertEqual(json.loads(added["Statement"]), statement)
        policy, revision = self.policy()
        self.assertEqual(policy, {"Version": "2012-10-17", "Id": "default", "Statement": [statement]})
        self.refused(
            "ResourceConflictException", 409,
            "The statement id (s3) provided already exists. Please provide a new statement id, or remove the existing "
            "statement.",
            self.add, sid="s3",
        )
        self.refused(
            "PreconditionFailedException", 412,
            "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest "
            "Revision Id",
            self.add, sid="other", RevisionId="another",
        )
        account = self.add("account", Principal="123456789012", RevisionId=revision)
        self.assertEqual(json.loads(account["Statement"])["Principal"], {"AWS": "arn:aws:iam::123456789012:root"})
        self.assertNotIn("Condition", json.loads(account["Statement"]))
        remove = self.api.remove_permission
        self.status(remove(FunctionName=self.name, StatementId="s3"), 204)
        self.refused(
            "ResourceNotFoundException", 404, "Statement s3 is not found in resource policy.",
            remove, FunctionName=self.name, StatementId="s3",
        )
        remove(FunctionName=self.name, StatementId="account")
        self.refused(
            "ResourceNotFoundException", 404, "No policy is associated with the given resource.",
            remove, FunctionName=self.name, StatementId="account",
        )
        self.refused(
            "ResourceNotFoundException", 404, f"No policy found for: {self.arn}x",
            remove, FunctionName=self.name + "x", StatementId="account",
        )

    def test_qualifiers(self):
        self.create(Publish=True)
        self.api.create_alias(FunctionName=self.name, Name="live", FunctionVersion="1")
        for qualifier in ("1", "live"):
            added = self.add("url", Qualifier=qualifier, Principal="*", FunctionUrlAuthType="NONE")
            statement = json.loads(added["Statement"])
            self.assertEqual((statement["Resource"], statement["Principal"]), (f"{self.arn}:{qualifier}", "*"))
            self.assertEqual(statement["Condition"], {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}})
            self.assertEqual(self.policy(Qualifier=qualifier)[0]["Statement"], [statement])
        for qualifier, code, status, message in (
            ("$LATEST", "InvalidParameterValueException", 400, "We currently do not support adding policies for $LATEST."),
            ("2", "ResourceNotFoundException", 404, f"Function not found: {self.arn}:2"),
            ("none", "ResourceNotFoundException", 404, f"Cannot find alias arn: {self.arn}:none"),
        ):
            self.refused(code, status, message, self.add, sid="s", Qualifier=qualifier)
        self.refused(
            "InvalidParameterValueException", 400,
            "The provided principal was invalid. Please check the principal and try again.",
            self.add, sid="s", Principal="nobody",
        )
        self.refused(
            "ValidationException", 400,
            "1 validation error detected: Value 'example.com' at 'statementId' failed to satisfy constraint: Member must "
            "satisfy regular expression pattern: ([a-zA-Z0-9-_]+)",
            self.add, sid="example.com",
        )
        self.api.delete_alias(FunctionName=self.name, Name="live")
        self.api.create_alias(FunctionName=self.name, Name="live", FunctionVersion="1")
        with self.assertRaises(self.api.exceptions.ResourceNotFoundException):
            self.policy(Qualifier="live")


class Management(Control):
    def test_defaults_and_what_is_kept(self):
        self.create()
        name = {"FunctionName": self.name}
        self.assertEqual(self.status(self.api.get_function_code_signing_config(**name), 200), {})
        recursion = self.api.get_function_recursion_config
        self.assertEqual(self.status(recursion(**name), 200), {"RecursiveLoop": "Terminate"})
        put = self.status(self.api.put_function_recursion_config(RecursiveLoop="Allow", **name), 200)
        self.assertEqual((put, self.status(recursion(**name), 200)), ({"RecursiveLoop": "Allow"}, {"RecursiveLoop": "Allow"}))
        self.refused(
            "ValidationException", 400,
            "1 validation error detected: Value 'InvalidValue' at 'recursiveLoop' failed to satisfy constraint: Member must "
            "satisfy enum value set: [Terminate, Allow]",
            self.api.put_function_recursion_config, RecursiveLoop="InvalidValue", **name,
        )
        runtime = self.api.get_runtime_management_config
        default = {"UpdateRuntimeOn": "Auto", "FunctionArn": self.arn}
        self.assertEqual(self.status(runtime(**name), 200), default)
        put = self.api.put_runtime_management_config(UpdateRuntimeOn="FunctionUpdate", **name)
        self.assertEqual(self.status(put, 200), {**default, "UpdateRuntimeOn": "FunctionUpdate"})
        self.assertEqual(runtime(**name)["UpdateRuntimeOn"], "FunctionUpdate")

    def test_scaling(self):
        self.create(Publish=True)
        path = f"/2025-11-30/functions/{self.name}/function-scaling-config?Qualifier=1"
        self.assertEqual(self.http("GET", path), (200, {"FunctionArn": f"{self.arn}:1"}))
        config = {"MinExecutionEnvironments": 0, "MaxExecutionEnvironments": 5}
        self.assertEqual(self.http("PUT", path, {"FunctionScalingConfig": config}), (202, {"FunctionState": "Active"}))
        kept = {"AppliedFunctionScalingConfig": config, "RequestedFunctionScalingConfig": config}
        self.assertEqual(self.http("GET", path), (200, {"FunctionArn": f"{self.arn}:1", **kept}))

    def test_account(self):
        before = self.status(self.api.get_account_settings(), 200)
        size = self.create(Publish=True)["CodeSize"]
        after = self.api.get_account_settings()
        self.assertEqual(
            set(after["AccountLimit"]),
            {"TotalCodeSize", "CodeSizeUnzipped", "CodeSizeZipped", "ConcurrentExecutions", "UnreservedConcurrentExecutions"},
        )
        self.assertEqual(after["AccountLimit"]["CodeSizeZipped"], 52428800)
        grown = {member: after["AccountUsage"][member] - before["AccountUsage"][member] for member in before["AccountUsage"]}
        self.assertEqual(grown, {"TotalCodeSize": 2 * size, "FunctionCount": 1})


class EventInvoke(Control):
    def test_life(self):
        self.create(Publish=True)
        name = {"FunctionName": self.name}
        absent = f"The function {self.arn}:%s doesn't have an EventInvokeConfig"
        get, put = self.api.get_function_event_invoke_config, self.api.put_function_event_invoke_config
        update, delete = self.api.update_function_event_invoke_config, self.api.delete_function_event_invoke_config
        self.refused("ResourceNotFoundException", 404, absent % "$LATEST", get, **name)
        self.refused("ResourceNotFoundException", 404, absent % "1", update, Qualifier="1", MaximumRetryAttempts=1, **name)
        made = self.status(put(MaximumRetryAttempts=1, **name), 200)
        self.assertLess(abs(made.pop("LastModified").timestamp() - time.time()), 60)
        shape = {"FunctionArn": f"{self.arn}:$LATEST", "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}}}
        self.assertEqual(made, {**shape, "MaximumRetryAttempts": 1})
        queue = "arn:aws:sqs:us-east-1:000000000000:failed"
        destinations = {"OnSuccess": {}, "OnFailure": {"Destination": queue}}
        update(MaximumEventAgeInSeconds=120, DestinationConfig={"OnFailure": {"Destination": queue}}, **name)
        got = get(**name)
        self.assertEqual((got["MaximumRetryAttempts"], got["MaximumEventAgeInSeconds"]), (1, 120))
        self.assertEqual(got["DestinationConfig"], destinations)
        put(Qualifier="1", MaximumEventAgeInSeconds=60, **name)
        replaced = put(MaximumEventAgeInSeconds=90, **name)
        self.assertNotIn("MaximumRetryAttempts", replaced)
        listed = self.api.list_function_event_invoke_configs(**name)
        self.assertEqual(
            [config["FunctionArn"] for config in listed["FunctionEventInvokeConfigs"]],
            [f"{self.arn}:$LATEST", f"{self.arn}:1"],
        )
        self.assertNotIn("NextMarker", listed)
        self.status(delete(**name), 204)
        self.refused("ResourceNotFoundException", 404, absent % "$LATEST", delete, **name)

    def test_refusals(self):
        self.create()
        put = self.api.put_function_event_invoke_config
        to = lambda arn: {"DestinationConfig": {"OnSuccess": {"Destination": arn}}}
        other = self.arn.replace(self.name, "doesnotexist")
        iam = "arn:aws:iam:us-east-1:000000000000:function:f"
        for options, code, status, message in (
            ({}, "InvalidParameterValueException", 400, "You must specify at least one of error handling or destination setting."),
            (to(other), "InvalidParameterValueException", 400, f"The destination ARN {other} is invalid."),
            (to(self.arn), "InvalidParameterValueException", 400, "You can't specify the function as a destination for itself."),
            (
                to(iam), "InvalidParameterValueException", 400,
                "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=" + iam + "), "
                "onFailure=null) is invalid.",
            ),
            (
                {"MaximumRetryAttempts": 3}, "ValidationException", 400,
                "1 validation error detected: Value '3' at 'maximumRetryAttempts' failed to satisfy constraint: Member must "
                "have value less than or equal to 2",
            ),
            ({"MaximumRetryAttempts": 1, "Qualifier": "7"}, "ResourceNotFoundException", 404, "The function doesn't exist."),
        ):
            self.refused(code, status, message, put, FunctionName=self.name, **options)


class Urls(Control):
    def fetch(self, url, headers=None, **options):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}, **options)) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def test_life(self):
        self.create()
        name = {"FunctionName": self.name}
        made = self.status(self.api.create_function_url_config(AuthType="NONE", **name), 201)
        self.assertEqual(set(made), {"FunctionUrl", "FunctionArn", "AuthType", "CreationTime"})
        self.assertEqual((made["FunctionArn"], made["AuthType"]), (self.arn, "NONE"))
        self.assertRegex(made["CreationTime"], DATE)
        self.assertRegex(made["FunctionUrl"], r"^http://[a-z0-9]{32}\.lambda-url\.us-east-1\.localhost:\d+/$")
        self.refused(
            "ResourceConflictException", 409,
            f"Failed to create function url config for [functionArn = {self.arn}]. Error message:  FunctionUrlConfig exists "
            "for this Lambda function",
            self.api.create_function_url_config, AuthType="NONE", **name,
        )
        cors = {"AllowOrigins": ["*"], "MaxAge": 60}
        changed = self.status(self.api.update_function_url_config(Cors=cors, **name), 200)
        self.assertEqual((changed["Cors"], changed["FunctionUrl"]), (cors, made["FunctionUrl"]))
        self.assertRegex(changed["LastModifiedTime"], DATE)
        got = self.status(self.api.get_function_url_config(**name), 200)
        self.assertEqual(got, {**changed, "InvokeMode": "BUFFERED"})
        self.assertEqual(self.api.list_function_url_configs(**name)["FunctionUrlConfigs"], [got])
        host = made["FunctionUrl"].split("/")[2]
        url_id = host.split(".")[0]
        for url, headers in (
            (f"{ENDPOINT}/_aws/lambda-url/{url_id}/a/b?c=d", {}),
            (f"{ENDPOINT}/a/b?c=d", {"Host": host}),
        ):
            status, answer = self.fetch(url, headers)
            event = answer["event"]
            self.assertEqual((status, event["rawPath"], event["rawQueryString"]), (200, "/a/b", "c=d"))
            self.assertEqual((event["requestContext"]["apiId"], event["version"]), (url_id, "2.0"))
            self.assertEqual((answer["version"], answer["arn"]), ("$LATEST", self.arn))
        self.status(self.api.delete_function_url_config(**name), 204)
        for call in (self.api.delete_function_url_config, self.api.get_function_url_config):
            self.refused("ResourceNotFoundException", 404, "The resource you requested does not exist.", call, **name)
        self.assertEqual(self.fetch(f"{ENDPOINT}/_aws/lambda-url/{url_id}/")[0], 403)

    def test_of_an_alias_for_the_signed(self):
        self.two_versions()
        self.api.create_alias(FunctionName=self.name, Name="live", FunctionVersion="1")
        made = self.api.create_function_url_config(FunctionName=self.name, Qualifier="live", AuthType="AWS_IAM")
        self.assertEqual(made["FunctionArn"], f"{self.arn}:live")
        url = f"{ENDPOINT}/_aws/lambda-url/{made['FunctionUrl'].split('/')[2].split('.')[0]}/"
        status, answer = self.fetch(url)
        self.assertEqual((status, answer["Message"][:10]), (403, "Forbidden."))
        signature = "AWS4-HMAC-SHA256 Credential=test/20250131/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
        status, answer = self.fetch(url, {"Authorization": signature})
        self.assertEqual((status, answer["release"], answer["arn"]), (200, 1, f"{self.arn}:live"))

    def test_refusals(self):
        self.create(Publish=True)
        create = self.api.create_function_url_config
        for qualifier in ("1", "$LATEST"):
            self.refused(
                "ValidationException", 400,
                f"1 validation error detected: Value '{qualifier}' at 'qualifier' failed to satisfy constraint: Member must "
                "satisfy regular expression pattern: ((?!^\\d+$)^[0-9a-zA-Z-_]+$)",
                create, FunctionName=self.name, AuthType="NONE", Qualifier=qualifier,
            )
        self.refused(
            "ValidationException", 400,
            "1 validation error detected: Value 'UNKNOWN' at 'invokeMode' failed to satisfy constraint: Member must satisfy "
            "enum value set: [RESPONSE_STREAM, BUFFERED]",
            create, FunctionName=self.name, AuthType="NONE", InvokeMode="UNKNOWN",
        )
        self.refused(
            "ResourceNotFoundException", 404, "Function does not exist",
            create, FunctionName=self.name, AuthType="NONE", Qualifier="nobody",
        )


class Provisioned(Control):
    def test_life(self):
        self.two_versions()
        self.api.create_alias(FunctionName=self.name, Name="live", FunctionVersion="2")
        of_alias = {"FunctionName": self.name, "Qualifier": "live"}
        get, put = self.api.get_provisioned_concurrency_config, self.api.put_provisioned_concurrency_config
        with self.assertRaises(self.api.exceptions.ProvisionedConcurrencyConfigNotFoundException) as caught:
            get(**of_alias)
        self.assertIn("No Provisioned Concurrency Config found for this function", str(caught.exception))
        put_answer = self.status(put(ProvisionedConcurrentExecutions=1, **of_alias), 202)
        self.assertEqual(
            (put_answer["Status"], put_answer["RequestedProvisionedConcurrentExecutions"]), ("IN_PROGRESS", 1)
        )
        got = self.status(get(**of_alias), 200)
        self.assertRegex(got.pop("LastModified"), DATE)
        numbers = {f"{kind}ProvisionedConcurrentExecutions": 1 for kind in ("Requested", "Available", "Allocated")}
        self.assertEqual(got, {**numbers, "Status": "READY"})
        listed = self.api.list_provisioned_concurrency_configs(FunctionName=self.name)["ProvisionedConcurrencyConfigs"]
        self.assertEqual([config["FunctionArn"] for config in listed], [f"{self.arn}:live"])
        self.refused(
            "ResourceConflictException", 409, "Version is pointed by a Provisioned Concurrency alias",
            put, FunctionName=self.name, Qualifier="2", ProvisionedConcurrentExecutions=1,
        )
        self.assertEqual(self.invoke("live")[0], "2")
        self.status(self.api.delete_provisioned_concurrency_config(**of_alias), 204)
        self.assertEqual(
            self.api.list_provisioned_concurrency_configs(FunctionName=self.name)["ProvisionedConcurrencyConfigs"], []
        )

    def test_refusals(self):
        self.create()
        put = self.api.put_provisioned_concurrency_config
        self.refused(
            "InvalidParameterValueException", 400,
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
            put, FunctionName=self.name, Qualifier="$LATEST", ProvisionedConcurrentExecutions=1,
        )
        self.refused(
            "ValidationException", 400,
            "1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: "
            "Member must have value greater than or equal to 1",
            put, FunctionName=self.name, Qualifier="live", ProvisionedConcurrentExecutions=0,
        )
