"""New values for the signing keys (deploy/signing_key.py)."""

import contextlib
import io
import unittest

import boto3
from botocore.stub import Stubber

from example import NOW, ROOT
import signing_key
import template as t

SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"


class Renew(unittest.TestCase):
    def setUp(self):
        session = boto3.session.Session("key", "secret", region_name="eu-central-1")
        self.clients = [session.client("cloudformation"), session.client("secretsmanager")]
        self.cloudformation, self.secrets = [self.enterContext(Stubber(client)) for client in self.clients]
        self.log = self.enterContext(contextlib.redirect_stdout(io.StringIO()))

    def renew(self, signs, *replaced, both=False):
        about = {
            "StackName": "people-production",
            "CreationTime": NOW,
            "StackStatus": "UPDATE_COMPLETE",
            "Parameters": [
                {"ParameterKey": "SigningKey", "ParameterValue": signs},
                {"ParameterKey": "Restart", "ParameterValue": "9"},
            ],
            "Outputs": [
                {"OutputKey": f"SigningKey{key.capitalize()}Arn", "OutputValue": SECRET + key}
                for key in ("blue", "green")
            ],
        }
        self.cloudformation.add_response("describe_stacks", {"Stacks": [about]}, {"StackName": "people-production"})
        for key in replaced:
            self.secrets.add_response(
                "get_random_password",
                {"RandomPassword": "secret of " + key},
                {"PasswordLength": 64, "ExcludePunctuation": True},
            )
            self.secrets.add_response(
                "put_secret_value", {}, {"SecretId": SECRET + key, "SecretString": "secret of " + key}
            )
        next_step = signing_key.renew("people-production", both, *self.clients)
        self.secrets.assert_no_pending_responses()
        self.assertNotIn("secret of", self.log.getvalue() + next_step)
        return next_step

    def test_the_key_that_does_not_sign(self):
        for signs, other in (("blue", "green"), ("green", "blue")):
            with self.subTest(signs=signs):
                self.assertRegex(self.renew(signs, other), f'"Restart=10", .*; then "SigningKey={other}"')

    def test_both_after_a_leak(self):
        self.assertRegex(self.renew("green", "blue", "green", both=True), '"Restart=10" and "DeploymentType=AllAtOnce"')

    def test_the_template_has_these_parameters_and_outputs(self):
        template = t.parsed((ROOT / "template.yaml").read_text())
        self.assertLessEqual({"SigningKey", "Restart", "DeploymentType"}, set(template["Parameters"]))
        self.assertLessEqual({"SigningKeyBlueArn", "SigningKeyGreenArn"}, set(template["Outputs"]))
        self.assertEqual(set(template["Parameters"]["SigningKey"]["AllowedValues"]), set(signing_key.OTHER))


if __name__ == "__main__":
    unittest.main()
