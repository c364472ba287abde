#!/usr/bin/env python3
"""What docs/authorizer.md shows other teams: the function in Python, and the templates as SAM expands them.

    python tests/other_team/test_snippets.py

It needs the Python packages of `pip install aws-sam-cli` (samtranslator), and no network.
"""

import json
import logging
import os
import pathlib
import sys
import unittest
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from samtranslator.translator.transform import transform
    from samtranslator.yaml_helper import yaml_parse

logging.disable(logging.WARNING)  # samtranslator's own
os.environ["AWS_DEFAULT_REGION"] = "eu-central-1"  # samtranslator needs one

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SNIPPETS = ROOT / "docs/snippets"
sys.dont_write_bytecode = True
sys.path.append(str(SNIPPETS))
import lessons  # noqa: E402

CALLER = {"user_id": "9b2f3c1e-5d44-4f0a-8c37-2d6a1e7b9f10", "session_id": "1f0c7a52-8e63-4b7d-9a15-c4d2e8f6a3b9",
          "roles": ["editor", "teacher"]}
ORIGIN = "'https://app.example'"


class NoPolicies:
    def load(self):
        return {}


def template(path):
    return yaml_parse(path.read_text())


def expanded(path):
    """The resources of a template as CloudFormation would get them."""
    parsed = template(path)
    for resource in parsed["Resources"].values():
        if "CodeUri" in resource["Properties"]:
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    return transform(parsed, {}, NoPolicies())["Resources"]


def of_type(resources, kind):
    return [resource["Properties"] for resource in resources.values() if resource["Type"] == kind]


def operations(api):
    return [(method, operation) for path in api["Body"]["paths"].values() for method, operation in path.items()]


class Function(unittest.TestCase):
    def events(self):
        for name in ("behind-authorizer", "behind-authorizer-rest"):
            yield json.loads((ROOT / f"tests/events/{name}.json").read_text())

    def test_it_tells_who_is_calling(self):
        for event in self.events():
            response = lessons.handler(event, None)
            self.assertEqual((response["statusCode"], json.loads(response["body"])), (200, CALLER))

    def test_a_user_may_have_no_roles(self):
        for event in self.events():
            context = event["requestContext"]["authorizer"]
            context.get("lambda", context)["roles"] = ""
            self.assertEqual(lessons.caller(event), CALLER | {"roles": []})

    def test_without_an_authorizer_it_fails(self):
        for event in self.events():
            del event["requestContext"]["authorizer"]
            with self.assertRaises(KeyError):
                lessons.handler(event, None)


class Templates(unittest.TestCase):
    def assert_imported(self, uri):
        self.assertIn({"Fn::ImportValue": "people-production-AuthorizerArn"}, uri["Fn::Sub"][1].values())

    def test_the_stack_is_one_of_ours_and_exports_the_arn(self):
        self.assertIn('stack_name = "people-production"', (ROOT / "samconfig.toml").read_text())
        output = template(ROOT / "template.yaml")["Outputs"]["AuthorizerArn"]
        self.assertEqual(output["Export"], {"Name": {"Fn::Sub": "${AWS::StackName}-AuthorizerArn"}})

    def test_http_api(self):
        resources = expanded(SNIPPETS / "http-api.yaml")
        api, = of_type(resources, "AWS::ApiGatewayV2::Api")
        authorizer = api["Body"]["components"]["securitySchemes"]["People"]["x-amazon-apigateway-authorizer"]
        self.assert_imported(authorizer.pop("authorizerUri"))
        self.assertEqual(authorizer, {"type": "request", "authorizerPayloadFormatVersion": "2.0", "enableSimpleResponses": True,
                                      "authorizerResultTtlInSeconds": 0, "identitySource": ["$request.header.Authorization"]})
        self.assertEqual([operation["security"] for _, operation in operations(api)], [[{"People": []}]])

    def test_rest_api(self):
        resources = expanded(SNIPPETS / "rest-api.yaml")
        api, = of_type(resources, "AWS::ApiGateway::RestApi")
        scheme = api["Body"]["securityDefinitions"]["People"]
        self.assertEqual((scheme["x-amazon-apigateway-authtype"], scheme["type"]), ("custom", "apiKey"))
        authorizer = scheme["x-amazon-apigateway-authorizer"]
        self.assert_imported(authorizer.pop("authorizerUri"))
        self.assertEqual(authorizer, {"type": "request", "authorizerResultTtlInSeconds": 0,
                                      "identitySource": "method.request.header.Authorization"})
        for method, operation in operations(api):
            # A preflight has no credentials.
            self.assertEqual(operation.get("security"), None if method == "options" else [{"People": []}])
        # That a gateway may invoke the authorizer is ours to say, not the other stack's.
        functions = {str(permission["FunctionName"]) for permission in of_type(resources, "AWS::Lambda::Permission")}
        self.assertEqual(functions, {str({"Ref": "Lessons"})})

    def test_responses_of_the_rest_api_to_refused_requests(self):
        api, = of_type(expanded(SNIPPETS / "rest-api.yaml"), "AWS::ApiGateway::RestApi")
        responses = api["Body"]["x-amazon-apigateway-gateway-responses"]
        for response in responses.values():
            self.assertEqual(response["responseParameters"],
                             {"gatewayresponse.header.Access-Control-Allow-Origin": ORIGIN})
        # The contexts with which the authorizer refuses: tests/contract/authorizer.rs.
        for kind, code in (("ACCESS_DENIED", 40103), ("ACCESS_DENIED", 40102), ("UNAUTHORIZED", 40102)):
            body = responses[kind]["responseTemplates"]["application/json"]
            body = json.loads(body.replace("$context.authorizer.code", str(code)))
            self.assertEqual((list(body), body["code"], body["data"]), (["code", "message", "data"], code, None))
        self.assertEqual(responses["ACCESS_DENIED"]["statusCode"], "401")
        self.assertIn("DEFAULT_5XX", responses)

    def test_what_sam_local_runs_differs_only_in_where_the_authorizer_is(self):
        tested = template(ROOT / "tests/other_team/template.yaml")["Resources"]
        for name, shown in (("HttpApi", "http-api.yaml"), ("RestApi", "rest-api.yaml")):
            local = tested[name]["Properties"]["Auth"]["Authorizers"]["People"]
            documented = template(SNIPPETS / shown)["Resources"]["Api"]["Properties"]["Auth"]["Authorizers"]["People"]
            self.assertEqual(local.pop("FunctionArn"), {"Fn::GetAtt": ["Authorizer", "Arn"]})
            documented.pop("FunctionArn")
            documented.pop("DisableFunctionDefaultPermissions", None)
            self.assertEqual(local, documented)


if __name__ == "__main__":
    unittest.main()
