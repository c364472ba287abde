"""The roles with which an environment is deployed (deploy/role.yaml)."""

import fnmatch
import json
import re
import unittest

from example import ROOT
import template as t

ROLE = t.parsed((ROOT / "deploy/role.yaml").read_text())["Resources"]
# The parts of the stack whose roles carry the boundary.
SERVICE = [
    path for name in ("template.yaml", "deploy/roles.yaml", "deploy/alarms.yaml") if (path := ROOT / name).exists()
]


def listed(value):
    return value if isinstance(value, list) else [value]


def statements(document):
    """The statements of a policy, also those under a condition."""
    for statement in document["Statement"]:
        choices = statement["Fn::If"][1:] if "Fn::If" in statement else [statement]
        yield from (choice for choice in choices if "Effect" in choice)


def policies(node):
    """Every document of a policy that is attached to a role, anywhere in a template."""
    if isinstance(node, list):
        for value in node:
            yield from policies(value)
    if isinstance(node, dict):
        if "PolicyDocument" in node:
            yield node["PolicyDocument"]
        for value in node.values():
            yield from policies(value)


def length(*documents):
    """Characters that count towards IAM's limits: without white space, with an account and an environment."""
    text = json.dumps(documents, separators=(",", ":"))
    text = re.sub(r'\{"Fn::Sub":"([^"]*)"\}', r'"\1"', text)
    for name, value in {
        "AWS::Partition": "aws",
        "AWS::Region": "ap-southeast-2",
        "AWS::AccountId": "123456789012",
        "Environment": "production",
        "Bucket.Arn": "arn:aws:s3:::" + "b" * 60,
    }.items():
        text = text.replace("${" + name + "}", value)
    return len(text)


class Roles(unittest.TestCase):
    def test_the_boundary_has_room_for_all_that_the_services_roles_do(self):
        allowed = [
            action
            for statement in ROLE["Boundary"]["Properties"]["PolicyDocument"]["Statement"]
            for action in listed(statement["Action"])
        ]
        for path in SERVICE:
            for document in policies(t.parsed(path.read_text())):
                for statement in statements(document):
                    if statement["Effect"] == "Allow":
                        for action in listed(statement["Action"]):
                            self.assertTrue(
                                any(fnmatch.fnmatch(action, pattern) for pattern in allowed), f"{path.name}: {action}"
                            )

    def test_the_boundary_lets_nobody_make_roles_or_change_functions(self):
        actions = [
            action
            for statement in ROLE["Boundary"]["Properties"]["PolicyDocument"]["Statement"]
            for action in listed(statement["Action"])
        ]
        self.assertFalse(
            [action for action in actions if "*" in action or action.startswith("iam:") or "UpdateFunction" in action]
        )

    def test_roles_are_made_only_within_the_boundary(self):
        by_condition = {
            "iam:CreateRole",
            "iam:PutRolePermissionsBoundary",
            "iam:PutRolePolicy",
            "iam:AttachRolePolicy",
            "iam:DeleteRolePolicy",
            "iam:DetachRolePolicy",
        }
        found = set()
        for policy in ROLE["CloudFormationRole"]["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                actions = set(listed(statement["Action"]))
                if statement["Effect"] == "Allow" and actions & by_condition:
                    self.assertEqual(
                        statement["Condition"], {"StringEquals": {"iam:PermissionsBoundary": {"Ref": "Boundary"}}}
                    )
                    found |= actions
                if statement["Effect"] == "Allow":
                    self.assertFalse(actions & {"iam:*", "*", "iam:DeleteRolePermissionsBoundary"})
        self.assertEqual(found, by_condition)

    def test_cloudformation_cannot_change_the_roles_the_boundary_or_the_database(self):
        denied = [
            statement
            for policy in ROLE["CloudFormationRole"]["Properties"]["Policies"]
            for statement in policy["PolicyDocument"]["Statement"]
            if statement["Effect"] == "Deny"
        ]
        self.assertEqual([statement["Action"] for statement in denied], [["iam:*", "cloudformation:*"]])
        self.assertEqual(len(denied[0]["Resource"]), 4)

    def test_cloudformation_can_read_the_one_secret_that_the_template_resolves(self):
        source = (ROOT / "template.yaml").read_text()
        self.assertEqual(re.findall(r"\{\{resolve:secretsmanager:\$\{(\w+)}", source), ["TrustedProxySecretArn"])
        readable = [
            statement["Resource"]["Fn::Sub"].rpartition(":")[2]
            for policy in ROLE["CloudFormationRole"]["Properties"]["Policies"]
            for statement in policy["PolicyDocument"]["Statement"]
            if "secretsmanager:GetSecretValue" in listed(statement["Action"])
        ]
        # A secret's ARN ends with its name, a hyphen and six characters.
        self.assertEqual(readable, ["people-${Environment}-proxy-*"])
        self.assertIn("""f"{settings['stack']}-proxy\"""", (ROOT / "deploy/cloudfront.py").read_text())

    def test_only_its_own_environment_on_github_can_sign_in(self):
        (statement,) = ROLE["DeployRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        condition = statement["Condition"]["StringEquals"]
        self.assertEqual(set(statement["Condition"]), {"StringEquals"})
        self.assertEqual(
            condition["token.actions.githubusercontent.com:sub"],
            {"Fn::Sub": "repo:${Repository}:environment:${Environment}"},
        )
        self.assertEqual(condition["token.actions.githubusercontent.com:aud"], "sts.amazonaws.com")

    def test_a_session_outlasts_the_job(self):
        job = t.parsed((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["release"]
        (seconds,) = (
            step["with"]["role-duration-seconds"]
            for step in job["steps"]
            if "role-duration-seconds" in step.get("with", {})
        )
        self.assertEqual(seconds, ROLE["DeployRole"]["Properties"]["MaxSessionDuration"])
        self.assertLess(job["timeout-minutes"] * 60, seconds)

    def test_the_policies_are_within_iams_limits(self):
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
        self.assertLess(length(ROLE["Boundary"]["Properties"]["PolicyDocument"]), 6144)
        for name in ("CloudFormationRole", "DeployRole"):
            self.assertLess(
                length(*(policy["PolicyDocument"] for policy in ROLE[name]["Properties"]["Policies"])), 10240, name
            )

    def test_the_workflow_has_every_right_that_the_release_uses(self):
        """The calls that deploy/aws.py makes, by client."""
        actions = {
            action
            for policy in ROLE["DeployRole"]["Properties"]["Policies"]
            for statement in policy["PolicyDocument"]["Statement"]
            if statement["Effect"] == "Allow"
            for action in listed(statement["Action"])
        }
        source = (ROOT / "deploy/aws.py").read_text()
        services = {
            "cloudformation": "cloudformation",
            "s3": "s3",
            "functions": "lambda",
            "logs": "logs",
            "codedeploy": "codedeploy",
        }
        called = set(re.findall(r"self\.(\w+)\.(?:get_paginator\(\"(\w+)\"\)|([a-z_]+)\()", source))
        names = {
            f"{services[client]}:{(paginated or method).title().replace('_', '')}"
            for client, paginated, method in called
            if client in services and method != "get_paginator"
        }
        self.assertGreater(len(names), 12)
        self.assertEqual(
            {
                name.replace("lambda:Invoke", "lambda:InvokeFunction") if name == "lambda:Invoke" else name
                for name in names
            }
            - actions,
            set(),
        )


if __name__ == "__main__":
    unittest.main()
