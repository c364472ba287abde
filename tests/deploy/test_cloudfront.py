"""CloudFront in front of an environment (deploy/cloudfront.py)."""

import unittest

import boto3
from botocore.stub import Stubber

from example import NOW, ROOT
import cloudfront
import template as t
from template import Refused

ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:people-production-proxy"
SERVICE = {"DomainName": "random.origin.example.com", "TrustedProxySecretArn": ARN}


class CloudFront(unittest.TestCase):
    def setUp(self):
        session = boto3.session.Session("key", "secret", region_name="eu-central-1")
        self.clients = [session.client("secretsmanager"), session.client("cloudformation")]
        self.secrets, self.cloudformation = [self.enterContext(Stubber(client)) for client in self.clients]

    def test_the_secret_has_a_random_value(self):
        self.secrets.add_response(
            "get_random_password", {"RandomPassword": "random"}, {"PasswordLength": 40, "ExcludePunctuation": True}
        )
        self.secrets.add_response(
            "create_secret", {"ARN": ARN}, {"Name": "people-production-proxy", "SecretString": "random"}
        )
        self.assertEqual(cloudfront.secret("people-production-proxy", self.clients[0]), ARN)

    def create(self, **parameters):
        settings = {"stack": "people-production", "parameters": SERVICE | parameters}
        return cloudfront.create(settings, {"DomainName": "api.example.com", "CertificateArn": "arn"}, *self.clients)

    def test_it_has_the_value_and_the_name_that_the_service_has(self):
        self.secrets.add_response("get_secret_value", {"SecretString": "random"}, {"SecretId": ARN})
        given = {
            "OriginName": "random.origin.example.com",
            "OriginSecret": "random",
            "DomainName": "api.example.com",
            "CertificateArn": "arn",
        }
        source = (ROOT / "deploy/cloudfront.yaml").read_text()
        declared = t.parsed(source)["Parameters"]
        self.assertEqual(set(given), {name for name, about in declared.items() if "Default" not in about})
        self.cloudformation.add_response(
            "create_stack",
            {},
            {
                "StackName": "people-production-cloudfront",
                "TemplateBody": source,
                "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
            },
        )
        about = {
            "StackName": "people-production-cloudfront",
            "CreationTime": NOW,
            "StackStatus": "CREATE_COMPLETE",
            "Outputs": [{"OutputKey": "DomainTarget", "OutputValue": "d1.cloudfront.net"}],
        }
        for _ in ("the waiter", "the outputs"):
            self.cloudformation.add_response(
                "describe_stacks", {"Stacks": [about]}, {"StackName": "people-production-cloudfront"}
            )
        self.assertEqual(self.create(), {"DomainTarget": "d1.cloudfront.net"})
        self.cloudformation.assert_no_pending_responses()

    def test_without_a_name_and_a_secret_of_the_service_nothing_is_made(self):
        for name in SERVICE:
            with self.subTest(name), self.assertRaisesRegex(Refused, name):
                self.create(**{name: ""})


if __name__ == "__main__":
    unittest.main()
