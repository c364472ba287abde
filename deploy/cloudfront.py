#!/usr/bin/env python3
"""Puts CloudFront and WAF (deploy/cloudfront.yaml) in front of an environment; docs/deployment.md has all steps.

    deploy/cloudfront.py production secret     makes the value by which the functions know it; nobody sees it
    deploy/cloudfront.py production create DomainName=api.example.com CertificateArn=arn:aws:acm:us-east-1:…

Needs credentials for AWS, and the packages in deploy/requirements.txt.
"""

import argparse
import pathlib
import sys

import boto3

import aws
import template as t
from template import Refused

ROOT = pathlib.Path(__file__).resolve().parent.parent


def secret(name, secrets):
    """Returns the ARN of a new secret."""
    value = secrets.get_random_password(PasswordLength=40, ExcludePunctuation=True)["RandomPassword"]
    return secrets.create_secret(Name=name, SecretString=value)["ARN"]


def create(settings, given, secrets, cloudformation):
    """Makes the stack with what the service's parameters say. Returns its outputs."""
    service = settings["parameters"]
    for name in ("DomainName", "TrustedProxySecretArn"):
        if not service.get(name):
            raise Refused(f"{name} in samconfig.toml is empty")
    value = secrets.get_secret_value(SecretId=service["TrustedProxySecretArn"])["SecretString"]
    parameters = {"OriginName": service["DomainName"], "OriginSecret": value} | given
    name = f"{settings['stack']}-cloudfront"
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=(ROOT / "deploy/cloudfront.yaml").read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name)
    (found,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    return aws.outputs_of(found)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", help="a section of samconfig.toml")
    parser.add_argument("command", choices=["secret", "create"])
    parser.add_argument("parameters", nargs="*", type=t.pair, metavar="NAME=VALUE", help="of deploy/cloudfront.yaml")
    options = parser.parse_args(arguments)
    try:
        settings = t.settings((ROOT / "samconfig.toml").read_text(), options.environment)
        secrets = boto3.client("secretsmanager", region_name=settings["region"])
        if options.command == "secret":
            made = secret(f"{settings['stack']}-proxy", secrets)
            print(f'for samconfig.toml:\n    "TrustedProxySecretArn={made}",')
        else:
            # CloudFront's own region.
            cloudformation = boto3.client("cloudformation", region_name="us-east-1")
            made = create(settings, dict(options.parameters), secrets, cloudformation)
            print(f"the alias record of your domain leads to {made['DomainTarget']}")
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
