#!/usr/bin/env python3
"""Gives a signing key a new value, and says what to do next. Nobody sees the value.

    deploy/signing_key.py production          the key that does not sign: the first step of a rotation
    deploy/signing_key.py production --both   both, after a leak: all tokens become invalid

Not within the lifetime of a token after the last rotation: the key that signed before it still verifies tokens. Needs
credentials for AWS, and the packages in deploy/requirements.txt.
"""

import argparse
import pathlib
import sys

import boto3

import aws
import template as t

ROOT = pathlib.Path(__file__).resolve().parent.parent
OTHER = {"blue": "green", "green": "blue"}


def renew(stack, both, cloudformation, secrets):
    """Returns what to do next."""
    (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    parameters, outputs = aws.parameters_of(found), aws.outputs_of(found)
    signs = parameters["SigningKey"]
    for key in OTHER if both else [OTHER[signs]]:
        value = secrets.get_random_password(PasswordLength=64, ExcludePunctuation=True)["RandomPassword"]
        secrets.put_secret_value(SecretId=outputs[f"SigningKey{key.capitalize()}Arn"], SecretString=value)
        print(f"{key} has a new value", flush=True)
    restart = f"Restart={int(parameters['Restart']) + 1}"
    if both:
        return (
            f'Next: in samconfig.toml, "{restart}" and "DeploymentType=AllAtOnce", and deploy. All users are logged out.'
        )
    return (
        f'Next: in samconfig.toml, "{restart}", deploy, and wait for the end of the traffic shift; then '
        f'"SigningKey={OTHER[signs]}", and deploy.'
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", help="a section of samconfig.toml")
    parser.add_argument("--both", action="store_true")
    options = parser.parse_args(arguments)
    settings = t.settings((ROOT / "samconfig.toml").read_text(), options.environment)
    session = boto3.session.Session(region_name=settings["region"])
    print(renew(settings["stack"], options.both, session.client("cloudformation"), session.client("secretsmanager")))


if __name__ == "__main__":
    sys.exit(main())
