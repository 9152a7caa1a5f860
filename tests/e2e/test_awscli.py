"""The AWS CLI, unmodified: what people type into a shell, line by line."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
import uuid
import zipfile
from pathlib import Path

ENDPOINT = os.environ.get("LICHEN_ENDPOINT", "http://127.0.0.1:9000")
APP = "import greeting\n\ndef handler(event, context):\n    print('called')\n    return {'said': greeting.WORD, 'event': event}\n"


@unittest.skipUnless(shutil.which("aws"), "the AWS CLI is not installed: `make e2e` installs it")
class Shell(unittest.TestCase):
    """Each test types into a shell of its own, in a folder of its own."""

    maxDiff = None

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.name = f"awscli-{uuid.uuid4().hex[:10]}"
        self.environment = {
            **os.environ, "AWS_ENDPOINT_URL": ENDPOINT, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_DEFAULT_OUTPUT": "json", "AWS_PAGER": "", "NAME": self.name,
            "ROLE": "arn:aws:iam::000000000000:role/test", "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
        self.pack("app.zip", {"app.py": APP})
        self.pack("layer.zip", {"python/greeting.py": "WORD = 'hello'\n"})

    def pack(self, name, files):
        with zipfile.ZipFile(self.folder / name, "w") as archive:
            for path, content in files.items():
                archive.writestr(zipfile.ZipInfo(path), content)

    def run_line(self, line):
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=120,
        )

    def sh(self, line):
        """What a line prints; parsed where it is JSON."""
        done = self.run_line(line)
        self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}{done.stderr}")
        try:
            return json.loads(done.stdout)
        except ValueError:
            return done.stdout.strip()

    def refused(self, line):
        done = self.run_line(line)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stderr.strip()

    def create(self, more=""):
        self.sh("aws lambda publish-layer-version --layer-name $NAME --zip-file fileb://layer.zip > layer.json")
        self.addCleanup(self.run_line, "aws lambda delete-layer-version --layer-name $NAME --version-number 1")
        self.addCleanup(self.run_line, "aws lambda delete-function --function-name $NAME")
        made = self.sh(
            "aws lambda create-function --function-name $NAME --runtime python3.11 --handler app.handler --role $ROLE "
            f"--zip-file fileb://app.zip --layers arn:aws:lambda:us-east-1:000000000000:layer:$NAME:1 {more}"
        )
        self.sh("aws lambda wait function-active-v2 --function-name $NAME")
        return made

    def invoke(self, more=""):
        line = "aws lambda invoke --function-name $NAME --payload '{\"a\": 1}'"
        told = self.sh(f"{line} {more} answer.json")
        return told, json.loads((self.folder / "answer.json").read_text())

    def test_functions(self):
        made = self.create("--environment 'Variables={LEVEL=1}' --tags team=blue --timeout 10")
        self.assertEqual((made["State"], made["Environment"]), ("Pending", {"Variables": {"LEVEL": "1"}}))
        told, answer = self.invoke()
        self.assertEqual(told, {"StatusCode": 200, "ExecutedVersion": "$LATEST"})
        self.assertEqual(answer, {"said": "hello", "event": {"a": 1}})
        self.assertEqual(self.sh("aws lambda get-function --function-name $NAME --query Tags"), {"team": "blue"})
        self.assertEqual(
            self.sh("curl -s \"$(aws lambda get-function --function-name $NAME --query Code.Location --output text)\" | wc -c"),
            (self.folder / "app.zip").stat().st_size,
        )
        self.sh("aws lambda update-function-configuration --function-name $NAME --memory-size 256 --description changed")
        self.sh("aws lambda wait function-updated-v2 --function-name $NAME")
        shown = self.sh("aws lambda get-function-configuration --function-name $NAME --query '[MemorySize,Description]'")
        self.assertEqual(shown, [256, "changed"])
        self.pack("app.zip", {"app.py": "def handler(event, context):\n    return 'new'\n"})
        self.sh("aws lambda update-function-code --function-name $NAME --zip-file fileb://app.zip")
        self.sh("aws lambda wait function-updated --function-name $NAME")
        self.assertEqual(self.invoke()[1], "new")
        names = self.sh("aws lambda list-functions --query 'Functions[].FunctionName'")
        self.assertIn(self.name, names)
        self.assertEqual(self.sh("aws lambda delete-function --function-name $NAME"), {"StatusCode": 204})
        self.assertIn(
            f"An error occurred (ResourceNotFoundException) when calling the GetFunction operation: Function not found: "
            f"arn:aws:lambda:us-east-1:000000000000:function:{self.name}",
            self.refused("aws lambda get-function --function-name $NAME"),
        )

    def test_logs(self):
        self.create()
        tail = self.sh(
            "aws lambda invoke --function-name $NAME --log-type Tail --query LogResult --output text /dev/null | base64 -d"
        )
        self.assertRegex(tail, r"START RequestId: \S+ Version: \$LATEST\ncalled\nEND RequestId: \S+\nREPORT RequestId: ")
        streams = "aws logs describe-log-streams --log-group-name /aws/lambda/$NAME --query 'logStreams[].logStreamName'"
        self.assertTrue(self.sh(streams)[0])
        lines = self.sh("aws logs filter-log-events --log-group-name /aws/lambda/$NAME --query 'events[].message' --output text")
        self.assertIn("called", lines)

    def test_versions_and_aliases(self):
        self.create("--publish")
        self.sh("aws lambda update-function-configuration --function-name $NAME --description second")
        self.assertEqual(self.sh("aws lambda publish-version --function-name $NAME --query Version --output text"), 2)
        self.sh("aws lambda wait published-version-active --function-name $NAME --qualifier 2")
        listed = self.sh("aws lambda list-versions-by-function --function-name $NAME --query 'Versions[].Version'")
        self.assertEqual(listed, ["$LATEST", "1", "2"])
        alias = self.sh(
            "aws lambda create-alias --function-name $NAME --name live --function-version 1 "
            "--routing-config 'AdditionalVersionWeights={2=0.25}'"
        )
        self.assertEqual(alias["RoutingConfig"], {"AdditionalVersionWeights": {"2": 0.25}})
        self.sh("aws lambda update-alias --function-name $NAME --name live --function-version 2 --routing-config '{}'")
        self.assertEqual(self.invoke("--qualifier live")[0]["ExecutedVersion"], "2")
        self.sh("aws lambda delete-alias --function-name $NAME --name live")
        self.assertIn("Cannot find alias arn", self.refused("aws lambda get-alias --function-name $NAME --name live"))

    def test_layers(self):
        self.create()
        layer = json.loads((self.folder / "layer.json").read_text())
        arn = f"arn:aws:lambda:us-east-1:000000000000:layer:{self.name}"
        self.assertEqual((layer["Version"], layer["LayerVersionArn"]), (1, f"{arn}:1"))
        versions = self.sh("aws lambda list-layer-versions --layer-name $NAME --query 'LayerVersions[].Version'")
        self.assertEqual(versions, [1])
        self.assertIn(arn, self.sh("aws lambda list-layers --query 'Layers[].LayerArn'"))
        by_arn = self.sh(f"aws lambda get-layer-version-by-arn --arn {arn}:1 --query Content.CodeSha256 --output text")
        self.assertEqual(by_arn, layer["Content"]["CodeSha256"])
        self.sh(
            "aws lambda add-layer-version-permission --layer-name $NAME --version-number 1 --statement-id all "
            "--principal '*' --action lambda:GetLayerVersion"
        )
        policy = self.sh("aws lambda get-layer-version-policy --layer-name $NAME --version-number 1 --query Policy --output text")
        self.assertEqual(policy["Statement"][0]["Principal"], "*")

    def test_urls_and_permissions(self):
        self.create()
        url = self.sh(
            "aws lambda create-function-url-config --function-name $NAME --auth-type NONE --cors AllowOrigins='*' "
            "--query FunctionUrl --output text"
        )
        self.sh(
            "aws lambda add-permission --function-name $NAME --statement-id public --action lambda:InvokeFunctionUrl "
            "--principal '*' --function-url-auth-type NONE"
        )
        identity = url.split("//")[1].split(".")[0]
        answer = self.sh(f"curl -s '{ENDPOINT}/_aws/lambda-url/{identity}/x?a=1'")
        self.assertEqual((answer["said"], answer["event"]["rawPath"]), ("hello", "/x"))
        policy = self.sh("aws lambda get-policy --function-name $NAME --query Policy --output text")
        condition = policy["Statement"][0]["Condition"]
        self.assertEqual(condition, {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}})
        self.sh("aws lambda remove-permission --function-name $NAME --statement-id public")
        self.sh("aws lambda delete-function-url-config --function-name $NAME")
        self.assertEqual(self.sh("aws lambda list-function-url-configs --function-name $NAME"), {"FunctionUrlConfigs": []})

    def test_what_is_wrong_is_told(self):
        message = self.refused(
            "aws lambda create-function --function-name $NAME --runtime python3.11 --handler app.handler --role r1 "
            "--memory-size 128 --timeout 901 --zip-file fileb://app.zip"
        )
        self.assertIn("(ValidationException) when calling the CreateFunction operation: 2 validation errors detected: ", message)
        self.assertIn("Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression", message)


if __name__ == "__main__":
    unittest.main()
