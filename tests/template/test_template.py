#!/usr/bin/env python3
"""Checks what template.yaml expands to, once for each kind of database.

    python tests/template/test_template.py

It needs the Python packages that `pip install aws-sam-cli` brings (samtranslator), and no network.
"""

import functools
import hashlib
import json
import logging
import os
import pathlib
import re
import sys
import tomllib
import unittest
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from samtranslator.translator.transform import transform
    from samtranslator.yaml_helper import yaml_parse

logging.disable(logging.WARNING)  # samtranslator's own

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "tests"))
from functions import functions  # noqa: E402
REGION, ACCOUNT, STACK = "eu-central-1", "123456789012", "people-test"
os.environ["AWS_DEFAULT_REGION"] = REGION  # samtranslator needs one
PSEUDO = {"AWS::Region": REGION, "AWS::AccountId": ACCOUNT, "AWS::StackName": STACK, "AWS::Partition": "aws"}
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:"
COMMON = {"CorsOrigins": "https://app.example.com,http://localhost:5173"}
OWNER = {"DatabaseOwnerSecretArn": SECRET + "owner"}
CREATED = {"CreateDatabase": "true", "VpcId": "vpc-0123456789abcdef0",
           "SubnetIds": "subnet-0123456789abcdef0,subnet-0123456789abcdef1"}
MAIL = {"MailFrom": "People <no-reply@example.com>", "AppResetUrl": "https://app.example.com/reset",
        "AppEmailUrl": "https://app.example.com/email"}
SCENARIOS = {
    "a secret": {**OWNER, "DatabaseSecretArn": SECRET + "application", **MAIL, "CreateMailIdentity": "false"},
    "IAM": {**OWNER, "DatabaseHost": "db.example.com", "DatabaseResourceId": "db-ABC",
            "SubnetIds": CREATED["SubnetIds"], "SecurityGroupIds": "sg-0123456789abcdef0"},
    "created": {**CREATED, **MAIL},
    "created behind a proxy": {**CREATED, "CreateProxy": "true", "SigningKey": "green", "RegisterConcurrency": "none",
                               "ServeDocs": "false"},
}
FUNCTIONS = {function["name"].capitalize(): function for function in functions()}
ROUTED = {name for name, function in FUNCTIONS.items() if function["routes"]}
# What a client waits for: a gateway invokes it, for a route or to authorize.
SERVING = ROUTED | {"Authorizer"}
ROUTES = {(method.lower(), path): name for name in ROUTED for method, path in FUNCTIONS[name]["routes"]}
# Only where mail is set up.
MAIL_ROUTES = {("post", path) for path in ("/auth/forgot", "/auth/reset", "/auth/email", "/auth/email/confirm")}
# The routes of Docs, where it is deployed.
DOCS = {"Page": ("get", "/docs"), "Files": ("get", "/docs/{file}"), "Description": ("get", "/openapi.json")}
# Invoked every hour and every minute.
SCHEDULED = {"Purge": "rate(1 hour)", "Outbox": "rate(1 minute)"}
# Never more than one instance.
SINGLE = {"Outbox", "Admin"}
# Without a database, so outside of the VPC.
OUTSIDE = {"Docs", "Courier"}
GATEWAY_TIMEOUT = 30
HANDLER_DEADLINE = 10

# The only statements with a wildcard: actions without resource-level permissions, or for which AWS documents it.
WILDCARDS = [
    ("TracePolicy", "Allow", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"]),
    ("NetworkPolicy", "Allow", ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"], ["*"]),
    ("NetworkPolicy", "Allow",
     ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses",
      "ec2:UnassignPrivateIpAddresses"], [f"arn:aws:ec2:{REGION}:{ACCOUNT}:*/*"]),
]
# The only AWS managed policy: what CodeDeploy needs, as SAM attaches it.
MANAGED = {"arn:aws:iam::aws:policy/service-role/AWSCodeDeployRoleForLambda"}


class NoPolicies:
    """SAM looks up AWS managed policies by name; the template uses none."""

    def load(self):
        return {}


NO_VALUE = object()


class Expanded:
    """The template as CloudFormation would deploy it with these parameters. Resource attributes stay symbolic."""

    def __init__(self, parameters):
        template = yaml_parse((ROOT / "template.yaml").read_text())
        for resource in template["Resources"].values():
            if "CodeUri" in resource.get("Properties", {}):
                resource["Properties"]["CodeUri"] = "s3://bucket/key"
        declared = template["Parameters"]
        self.parameters = {name: str(about["Default"]) for name, about in declared.items() if "Default" in about}
        self.parameters |= COMMON | parameters
        assert set(self.parameters) == set(declared), "a parameter without a value"
        self.raw = transform(template, dict(self.parameters), NoPolicies())
        self.conditions = self.raw["Conditions"]
        self.present = {name for name, resource in self.raw["Resources"].items()
                        if "Condition" not in resource or self.holds(resource["Condition"])}
        self.resources = {name: self.resolve(self.raw["Resources"][name]) for name in self.present}
        self.outputs = {name: self.resolve(output["Value"]) for name, output in self.raw["Outputs"].items()
                        if "Condition" not in output or self.holds(output["Condition"])}

    def holds(self, condition):
        return self.resolve(self.conditions[condition])

    def of_type(self, kind):
        return {name: resource["Properties"] for name, resource in self.resources.items() if resource["Type"] == kind}

    def ref(self, name):
        if name in PSEUDO:
            return PSEUDO[name]
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self.parameters:
            return self.parameters[name]
        assert name in self.present, f"refers to {name}, which does not exist"
        return f"<{name}>"

    def attribute(self, name):
        resource = name.split(".")[0]
        assert resource in self.present, f"refers to {name}, which does not exist"
        return f"<{name}>"

    def substitute(self, argument):
        text, values = argument if isinstance(argument, list) else (argument, {})
        values = {name: self.resolve(value) for name, value in values.items()}

        def value(match):
            name = match.group(1)
            return str(values[name] if name in values else self.attribute(name) if "." in name else self.ref(name))
        return re.sub(r"\$\{([^!}]+)\}", value, text)

    def resolve(self, node):
        if isinstance(node, list):
            return [value for value in map(self.resolve, node) if value is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (name, argument), = node.items()
            match name:
                case "Ref":
                    return self.ref(argument)
                case "Condition" if isinstance(argument, str):
                    return self.holds(argument)
                case "Fn::If":
                    return self.resolve(argument[1] if self.holds(argument[0]) else argument[2])
                case "Fn::GetAtt":
                    return self.attribute(".".join(argument) if isinstance(argument, list) else argument)
                case "Fn::Sub":
                    return self.substitute(argument)
                case "Fn::Equals":
                    left, right = map(self.resolve, argument)
                    return left == right
                case "Fn::Not":
                    return not self.resolve(argument[0])
                case "Fn::And":
                    return all(map(self.resolve, argument))
                case "Fn::Or":
                    return any(map(self.resolve, argument))
                case "Fn::Split":
                    return self.resolve(argument[1]).split(argument[0])
                case "Fn::Join":
                    return argument[0].join(map(str, self.resolve(argument[1])))
                case "Fn::Select":
                    values = self.resolve(argument[1])
                    return values[int(argument[0])] if int(argument[0]) < len(values) else f"<part of {values}>"
                case _ if name.startswith("Fn::"):
                    raise AssertionError(f"{name}: not understood")
        resolved = {key: self.resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not NO_VALUE}


def each(value):
    return value if isinstance(value, list) else [value]


def with_each_database(test):
    @functools.wraps(test)
    def run(self):
        for name, stack in self.stacks.items():
            with self.subTest(database=name):
                test(self, stack)
    return run


class Template(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.source = yaml_parse((ROOT / "template.yaml").read_text())
        cls.stacks = {name: Expanded(parameters) for name, parameters in SCENARIOS.items()}

    def statements(self, stack):
        """Every statement of every policy, with the resource that it is in."""
        for name, role in stack.of_type("AWS::IAM::Role").items():
            for policy in role.get("Policies", []):
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield name, statement
        for name, policy in stack.of_type("AWS::IAM::ManagedPolicy").items():
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement

    def allowed(self, stack, function):
        """What a function's role may do: action → resources."""
        role = stack.of_type("AWS::IAM::Role")[f"{function}Role"]
        documents = [policy["PolicyDocument"] for policy in role["Policies"]]
        for reference in role["ManagedPolicyArns"]:
            documents.append(stack.resources[reference.strip("<>")]["Properties"]["PolicyDocument"])
        may = {}
        for document in documents:
            for statement in document["Statement"]:
                if statement["Effect"] == "Allow":
                    for action in each(statement["Action"]):
                        may.setdefault(action, []).extend(each(statement["Resource"]))
        return may

    def docs(self, stack):
        """The function Docs, where it is deployed."""
        return {"Docs"} if stack.parameters["ServeDocs"] == "true" else set()

    # --- Functions and directories

    def test_every_directory_is_a_function_and_vice_versa(self):
        declared = {name: resource for name, resource in self.source["Resources"].items()
                    if resource["Type"] == "AWS::Serverless::Function"}
        directories = {path.parent.name for path in (ROOT / "functions").glob("*/main.rs")}
        self.assertEqual({function["name"] for function in FUNCTIONS.values()}, directories)
        self.assertEqual(set(declared), set(FUNCTIONS), "template.yaml declares other functions than functions/lib.rs lists")
        manifest = tomllib.loads((ROOT / "functions/Cargo.toml").read_text())
        self.assertEqual({binary["name"] for binary in manifest["bin"]}, directories, "functions/Cargo.toml")
        for name, resource in declared.items():
            binary = name.lower()
            self.assertEqual(resource["Properties"]["CodeUri"], "functions")
            self.assertEqual(resource["Metadata"],
                             {"BuildMethod": "rust-cargolambda", "BuildProperties": {"Binary": binary}})

    def test_binaries_unwind_after_a_panic(self):
        # Unless the profile says so itself, cargo-lambda builds with panic=abort, and a panic would end the instance.
        profile = tomllib.loads((ROOT / "Cargo.toml").read_text())["profile"]["release"]
        self.assertEqual(profile["panic"], "unwind")

    def test_each_function_can_be_deployed_by_itself(self):
        # yaml_parse keeps the key `on` as text.
        workflow = yaml_parse((ROOT / ".github/workflows/deploy.yml").read_text())
        triggers = workflow.get("on", workflow.get(True))
        options = triggers["workflow_dispatch"]["inputs"]["function"]["options"]
        self.assertEqual(set(options), {"all", *FUNCTIONS}, ".github/workflows/deploy.yml offers other functions")

    @with_each_database
    def test_functions_run_on_amazon_linux_2023_and_time_out_before_the_gateway(self, stack):
        functions = stack.of_type("AWS::Lambda::Function")
        self.assertEqual(set(functions), set(FUNCTIONS) - {"Docs"} | self.docs(stack))
        for name, function in functions.items():
            self.assertEqual(function["Runtime"], "provided.al2023")
            self.assertEqual(function["Architectures"], ["x86_64"])
            self.assertEqual(function["TracingConfig"], {"Mode": "Active"})
            if name in SERVING | {"Docs"}:
                self.assertGreater(function["Timeout"], HANDLER_DEADLINE)
                self.assertLess(function["Timeout"], GATEWAY_TIMEOUT)
                self.assertLessEqual(function["MemorySize"], 1769)

    @with_each_database
    def test_functions_that_hash_have_a_whole_vcpu_and_limits_apply(self, stack):
        for name, function in stack.of_type("AWS::Lambda::Function").items():
            hashes = "passwords" in FUNCTIONS[name]["needs"]
            self.assertEqual(function["MemorySize"], 1769 if hashes else 256)
            limit = "1" if name in SINGLE else stack.parameters.get(f"{name}Concurrency", "none")
            self.assertEqual(str(function.get("ReservedConcurrentExecutions", "none")), limit)

    def test_in_an_account_with_a_small_limit_no_concurrency_is_reserved(self):
        none = {f"{name}Concurrency": "none" for name in SERVING}
        for function in Expanded(CREATED | none).of_type("AWS::Lambda::Function").values():
            self.assertNotIn("ReservedConcurrentExecutions", function)

    def test_the_concurrency_limits_fit_the_smallest_database(self):
        # db.t4g.micro: about 80 connections, of which RDS reserves a few. Migrate and Purge take one each, as the single ones.
        parameters = self.stacks["created"].parameters
        limits = sum(int(parameters[f"{name}Concurrency"]) for name in SERVING)
        self.assertLessEqual(limits + 2 + len(SINGLE), 70)
        self.assertIn(f" = {limits}.", (ROOT / "docs/operations.md").read_text(), "docs/operations.md has another sum")

    # --- Routes

    @with_each_database
    def test_every_route_reaches_its_function_and_there_are_no_others(self, stack):
        body = stack.of_type("AWS::ApiGatewayV2::Api")["Gateway"]["Body"]
        routes = {(method, path): operation for path, methods in body["paths"].items()
                  for method, operation in methods.items()}
        events = {(event["Properties"]["Method"].lower(), event["Properties"]["Path"]): name
                  for function in self.source["Resources"].values() if function["Type"] == "AWS::Serverless::Function"
                  for name, event in function["Properties"].get("Events", {}).items() if event["Type"] == "HttpApi"}
        self.assertLessEqual(set(ROUTES), set(events), "a route of functions/lib.rs is not in template.yaml")
        expected = [(name, events[route], route) for route, name in ROUTES.items() if self.exists(stack, route)]
        if self.docs(stack):
            expected += [("Docs", event, route) for event, route in DOCS.items()]
        self.assertEqual(set(routes), {route for _, _, route in expected})
        for name, event, route in expected:
            integration = routes[route]["x-amazon-apigateway-integration"]
            self.assertIn(f"/functions/<{name}Aliaslive>/invocations", integration["uri"])
            self.assertEqual(integration["payloadFormatVersion"], "2.0")
            permission = stack.resources[f"{name}{event}Permission"]["Properties"]
            self.assertEqual(permission["FunctionName"], f"<{name}Aliaslive>")
            path = re.sub(r"\{.*?\}", "*", route[1])
            self.assertTrue(permission["SourceArn"].endswith(f"/*/{route[0].upper()}{path}"), permission)
        # Besides the routes, only the schedules and the gateways below may invoke a function. SAM permits an absent route, too.
        absent = sum(not self.exists(stack, route) for route in ROUTES)
        self.assertEqual(len(stack.of_type("AWS::Lambda::Permission")), len(expected) + absent + len(SCHEDULED) + 1)

    def test_gateways_of_this_account_and_of_named_ones_may_invoke_the_authorizer(self):
        others = ["210987654321", "111122223333", "444455556666"]
        for named in range(len(others) + 1):
            stack = Expanded(CREATED | {"AuthorizerAccounts": ",".join(others[:named])})
            permissions = [permission for permission in stack.of_type("AWS::Lambda::Permission").values()
                           if permission["FunctionName"] == "<AuthorizerAliaslive>"]
            self.assertEqual({permission["SourceAccount"] for permission in permissions}, {ACCOUNT, *others[:named]})
            for permission in permissions:
                self.assertEqual((permission["Action"], permission["Principal"]),
                                 ("lambda:InvokeFunction", "apigateway.amazonaws.com"))
            self.assertEqual(stack.outputs["AuthorizerArn"], "<AuthorizerAliaslive>")

    @with_each_database
    def test_purge_runs_every_hour_and_outbox_every_minute(self, stack):
        rules = stack.of_type("AWS::Events::Rule")
        targets = {target["Arn"]: rule["ScheduleExpression"] for rule in rules.values() for target in rule["Targets"]}
        self.assertEqual(targets, {f"<{name}.Arn>": rate for name, rate in SCHEDULED.items()})
        for name, event in (("Purge", "Hourly"), ("Outbox", "EveryMinute")):
            permission = stack.resources[f"{name}{event}Permission"]["Properties"]
            self.assertEqual((permission["Principal"], permission["SourceArn"]),
                             ("events.amazonaws.com", f"<{name}{event}.Arn>"))
        self.assertLess(stack.of_type("AWS::Lambda::Function")["Outbox"]["Timeout"], 60)

    def asynchronous(self, stack, function):
        """What the Lambda service does after an asynchronous invocation."""
        return stack.resources[f"{function}EventInvokeConfig"]["Properties"]

    @with_each_database
    def test_one_failed_purge_is_one_error_and_no_alarm(self, stack):
        self.assertEqual(self.asynchronous(stack, "Purge")["MaximumRetryAttempts"], 0)
        alarm = stack.resources["PurgeErrorsAlarm"]["Properties"]
        self.assertEqual((alarm["Statistic"], alarm["Threshold"], alarm["Period"]), ("Sum", 2, 6 * 3600))

    @with_each_database
    def test_every_route_is_throttled(self, stack):
        stage, = stack.of_type("AWS::ApiGatewayV2::Stage").values()
        # The settings of a route that does not exist would fail the deployment: those of Docs and of mail have the default.
        self.assertEqual(set(stage["RouteSettings"]), {f"{m.upper()} {p}" for m, p in set(ROUTES) - MAIL_ROUTES})
        for settings in [stage["DefaultRouteSettings"], *stage["RouteSettings"].values()]:
            self.assertGreater(settings["ThrottlingRateLimit"], 0)
            self.assertGreaterEqual(settings["ThrottlingBurstLimit"], settings["ThrottlingRateLimit"])

    # --- Mails and events

    def exists(self, stack, route):
        return route not in MAIL_ROUTES or stack.parameters["MailFrom"] != ""

    @with_each_database
    def test_the_answer_of_outbox_goes_to_courier_which_is_tried_three_times(self, stack):
        outbox, courier = self.asynchronous(stack, "Outbox"), self.asynchronous(stack, "Courier")
        self.assertEqual(outbox["DestinationConfig"], {"OnSuccess": {"Destination": "<Courier.Arn>"}})
        # The next run is the retry, and none waits for another.
        self.assertEqual((outbox["MaximumRetryAttempts"], outbox["MaximumEventAgeInSeconds"]), (0, 60))
        self.assertEqual((courier["MaximumRetryAttempts"], courier["DestinationConfig"]), (2, {}))
        self.assertEqual(self.allowed(stack, "Outbox")["lambda:InvokeFunction"], ["<Courier.Arn>"])
        for function in set(FUNCTIONS) - {"Outbox", *OUTSIDE}:
            self.assertNotIn("lambda:InvokeFunction", self.allowed(stack, function))

    @with_each_database
    def test_courier_sends_and_can_do_nothing_else(self, stack):
        self.assertNotIn("VpcConfig", stack.of_type("AWS::Lambda::Function")["Courier"])
        mail = stack.parameters["MailFrom"] != ""
        may = {action: resources for action, resources in self.allowed(stack, "Courier").items()
               if not action.startswith(("logs:", "xray:"))}
        expected = {"events:PutEvents": ["<EventBus.Arn>"]}
        if mail:
            expected["ses:SendEmail"] = [f"arn:aws:ses:{REGION}:{ACCOUNT}:identity/example.com"]
        self.assertEqual(may, expected)

    def test_without_a_sender_no_route_identity_or_permission_for_mail_exists(self):
        for name, stack in self.stacks.items():
            text = json.dumps(stack.resources)
            mail = "MailFrom" in SCENARIOS[name]
            self.assertEqual("ses:" in text, mail, name)
            self.assertEqual("/auth/forgot" in json.dumps(stack.resources["Gateway"]), mail, name)
            identities = [identity["EmailIdentity"] for identity in stack.of_type("AWS::SES::EmailIdentity").values()]
            created = mail and stack.parameters["CreateMailIdentity"] == "true"
            self.assertEqual(identities, ["example.com"] if created else [], name)
            self.assertEqual("MailDnsRecords" in stack.outputs, created, name)

    def test_the_sender_is_an_address_or_a_name_with_one(self):
        pattern = self.source["Parameters"]["MailFrom"]["AllowedPattern"]
        for sender in ["", "no-reply@example.com", MAIL["MailFrom"]]:
            self.assertRegex(sender, pattern)
        for sender in ["example.com", "no-reply@", "@example.com", "a@b@example.com", "a@example.com,b@example.com"]:
            self.assertNotRegex(sender, pattern)
        plain = Expanded(CREATED | MAIL | {"MailFrom": "no-reply@example.com"})
        self.assertEqual(plain.of_type("AWS::SES::EmailIdentity")["MailIdentity"]["EmailIdentity"], "example.com")

    @with_each_database
    def test_operators_and_other_services_find_what_they_need_in_the_outputs(self, stack):
        self.assertEqual(stack.outputs["AdminFunctionArn"], "<Admin.Arn>")
        self.assertEqual(stack.outputs["EventBusArn"], "<EventBus.Arn>")

    # --- Other routes, and origins

    def test_with_serve_docs_false_nothing_of_docs_is_deployed(self):
        stack = self.stacks["created behind a proxy"]
        self.assertEqual([name for name in stack.present if name.startswith("Docs")], [])
        self.assertNotIn("docs", json.dumps(stack.resources["Gateway"]))
        production = tomllib.loads((ROOT / "samconfig.toml").read_text())["production"]
        self.assertIn("ServeDocs=false", production["deploy"]["parameters"]["parameter_overrides"])

    @with_each_database
    def test_origins_are_exact(self, stack):
        cors = stack.of_type("AWS::ApiGatewayV2::Api")["Gateway"]["Body"]["x-amazon-apigateway-cors"]
        self.assertEqual(cors["allowOrigins"], COMMON["CorsOrigins"].split(","))
        self.assertNotIn("*", json.dumps(cors))
        self.assertFalse(cors.get("allowCredentials", False))
        pattern = self.stacks["IAM"].raw["Parameters"]["CorsOrigins"]["AllowedPattern"]
        for origins in ["", "https://app.example.com", COMMON["CorsOrigins"]]:
            self.assertRegex(origins, pattern)
        for origins in ["*", "https://*", "https://*.example.com", "null", "https://app.example.com/", "https://a.b,*"]:
            self.assertNotRegex(origins, pattern)

    def test_without_origins_there_is_no_cors(self):
        stack = Expanded(SCENARIOS["IAM"] | {"CorsOrigins": ""})
        self.assertNotIn("x-amazon-apigateway-cors", stack.of_type("AWS::ApiGatewayV2::Api")["Gateway"]["Body"])

    @with_each_database
    def test_access_logs_are_json_without_credentials(self, stack):
        stage, = stack.of_type("AWS::ApiGatewayV2::Stage").values()
        self.assertEqual(stage["AccessLogSettings"]["DestinationArn"], "<GatewayLog.Arn>")
        members = json.loads(stage["AccessLogSettings"]["Format"])
        self.assertEqual(len(set(members.values())), len(members))
        self.assertNotRegex(json.dumps(members), r"(?i)header|authoriz|query|body|\$context\.path")

    # --- Roles

    def test_wildcards_are_only_where_aws_requires_them(self):
        for name, stack in self.stacks.items():
            found = []
            for resource, statement in self.statements(stack):
                self.assertIn("Action", statement)
                self.assertIn("Resource", statement)
                actions, resources = each(statement["Action"]), each(statement["Resource"])
                wild = any("*" in action for action in actions) or any("*" in resource for resource in resources)
                if wild and statement["Effect"] == "Allow":
                    found.append((resource, statement["Effect"], actions, resources))
            expected = [entry for entry in WILDCARDS if entry[0] in stack.present]
            self.assertEqual(sorted(found), sorted(expected), name)

    @with_each_database
    def test_roles_can_be_assumed_by_their_service_only(self, stack):
        for name, role in stack.of_type("AWS::IAM::Role").items():
            statement, = role["AssumeRolePolicyDocument"]["Statement"]
            service = {"ProxyRole": "rds", "CodeDeployServiceRole": "codedeploy"}.get(name, "lambda")
            self.assertEqual(each(statement["Principal"]["Service"]), [f"{service}.amazonaws.com"])
            attached = {arn for arn in role.get("ManagedPolicyArns", []) if not arn.startswith("<")}
            self.assertLessEqual(attached, MANAGED if name == "CodeDeployServiceRole" else set())

    def test_each_function_has_its_own_role_with_only_the_permissions_it_needs(self):
        secrets = {
            "a secret": [SECRET + "application"],
            "IAM": [],
            "created": [],
            "created behind a proxy": [],
        }
        connect = {
            "a secret": None,
            "IAM": "db-ABC/people_app",
            "created": "<Database.DbiResourceId>/people_app",
            "created behind a proxy": "<part of ['<Proxy.DBProxyArn>']>/people_app",
        }
        network = {"ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces",
                   "ec2:DescribeSubnets", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"}
        always = {"logs:CreateLogStream", "logs:PutLogEvents", "xray:PutTraceSegments", "xray:PutTelemetryRecords"}
        for database, stack in self.stacks.items():
            for name, function in stack.of_type("AWS::Lambda::Function").items():
                with self.subTest(database=database, function=name):
                    self.assertEqual(function["Role"], f"<{name}Role.Arn>")
                    may = self.allowed(stack, name)
                    for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
                        self.assertEqual(may[action], [f"<{name}Log.Arn>"])
                    if name in OUTSIDE:
                        self.assertLessEqual(set(may) - {"events:PutEvents", "ses:SendEmail"}, always)
                        self.assertNotIn("VpcConfig", function)
                        continue
                    expected = set(always) | {"secretsmanager:GetSecretValue"}
                    if "SubnetIds" in SCENARIOS[database]:
                        expected |= network
                        self.assertIn("VpcConfig", function)
                    else:
                        self.assertNotIn("VpcConfig", function)
                    if name == "Migrate":
                        owner = "<OwnerSecret>" if "CreateDatabase" in SCENARIOS[database] else SECRET + "owner"
                        self.assertEqual(may["secretsmanager:GetSecretValue"], [owner, *secrets[database]])
                    else:
                        if name == "Outbox":
                            expected.add("lambda:InvokeFunction")
                        needs = FUNCTIONS[name]["needs"]
                        keys = ["<SigningKeyBlue>", "<SigningKeyGreen>"] if "keys" in needs else []
                        self.assertEqual(sorted(may.get("secretsmanager:GetSecretValue", [])),
                                         sorted([*secrets[database], *keys]))
                        if not secrets[database] and not keys:
                            expected.remove("secretsmanager:GetSecretValue")
                        if connect[database]:
                            expected.add("rds-db:connect")
                            self.assertEqual(may["rds-db:connect"],
                                             [f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:{connect[database]}"])
                    self.assertEqual(set(may), expected)

    def test_a_functions_code_cannot_use_the_permissions_that_attach_it_to_the_vpc(self):
        statements = [s for name, s in self.statements(self.stacks["created"]) if name == "NetworkPolicy"]
        allowed = {action for s in statements if s["Effect"] == "Allow" for action in s["Action"]}
        denied, = [s for s in statements if s["Effect"] == "Deny"]
        self.assertEqual(set(denied["Action"]), allowed)
        self.assertEqual(denied["Condition"]["ArnLike"]["lambda:SourceFunctionArn"],
                         f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}-*")
        for function in self.stacks["created"].of_type("AWS::Lambda::Function").values():
            self.assertTrue(function["FunctionName"].startswith(f"{STACK}-"))

    # --- Settings and secrets

    def test_settings_of_the_functions(self):
        common = {"SECRET_KEY": "", "ALGORITHM": "HS256", "ACCESS_TOKEN_EXPIRE_MINUTES": "60",
                  "SESSION_IDLE_MINUTES": "0", "TOKEN_ISSUER": "people",
                  "PASSWORD_MIN_LENGTH": "8", "PASSWORD_CONTEXT": "", "FAILURES_PER_ADDRESS": "50",
                  "REGISTRATIONS_PER_ADDRESS_PER_HOUR": "100",
                  "SECRET_KEY_ARN": "<SigningKeyBlue>", "SECRET_KEY_PREVIOUS_ARN": "<SigningKeyGreen>",
                  "DATABASE_SECRET_ARN": "", "DATABASE_IAM_AUTH": "true", "DATABASE_POOLER": "none"}
        differences = {
            "a secret": {"DATABASE_URL": "", "DATABASE_SECRET_ARN": SECRET + "application", "DATABASE_IAM_AUTH": "false"},
            "IAM": {"DATABASE_URL": "postgres://people_app@db.example.com:5432/people"},
            "created": {"DATABASE_URL": "postgres://people_app@<Database.Endpoint.Address>:5432/people"},
            "created behind a proxy": {
                "DATABASE_URL": "postgres://people_app@<Proxy.Endpoint>:5432/people", "DATABASE_POOLER": "transaction",
                "SECRET_KEY_ARN": "<SigningKeyGreen>", "SECRET_KEY_PREVIOUS_ARN": "<SigningKeyBlue>"},
        }
        for database, stack in self.stacks.items():
            for name, function in stack.of_type("AWS::Lambda::Function").items():
                with self.subTest(database=database, function=name):
                    if name == "Docs":
                        self.assertNotIn("Environment", function)
                        continue
                    variables = function["Environment"]["Variables"]
                    sender = {"MAIL_FROM": stack.parameters["MailFrom"]}
                    pages = {"APP_RESET_URL": stack.parameters["AppResetUrl"], "APP_EMAIL_URL": stack.parameters["AppEmailUrl"]}
                    if name == "Courier":
                        self.assertEqual(variables, {"EVENT_BUS": "<EventBus>"} | (sender if sender["MAIL_FROM"] else {}))
                        continue
                    if name == "Migrate":
                        password = database == "a secret"
                        self.assertEqual(variables, {
                            "DATABASE_SECRET_ARN":
                                "<OwnerSecret>" if "CreateDatabase" in SCENARIOS[database] else SECRET + "owner",
                            "DATABASE_URL": "", "DATABASE_IAM_AUTH": "false", "DATABASE_POOLER": "none",
                            "APPLICATION_ROLE": "people_app",
                            "APPLICATION_SECRET_ARN": SECRET + "application" if password else ""})
                    elif name == "Purge":
                        of_database = {setting: value for setting, value in (common | differences[database]).items()
                                       if setting.startswith("DATABASE_")}
                        self.assertEqual(variables, of_database | {"SESSION_RETENTION_DAYS": "7"})
                    else:
                        own = {
                            "Login": {"CORS_ALLOWED_ORIGINS": COMMON["CorsOrigins"]},
                            "Credentials": sender | pages | {"MAILS_PER_ADDRESS_PER_HOUR": "20"},
                            "Outbox": sender | pages,
                            "Admin": sender,
                        }.get(name, {})
                        own["REVISION"] = variables["REVISION"]
                        self.assertEqual(variables, common | differences[database] | own)

    def test_every_setting_is_in_the_readme_and_in_the_example(self):
        settings = (ROOT / "README.md").read_text().split("\n## Settings\n")[1]
        rows = [line.split("|") for line in settings.splitlines() if line.startswith("| `")]
        table = {name: row[3] for row in rows for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row[1])}
        read, literals = set(), set()
        for pattern in ("shared/src/**/*.rs", "functions/*/*.rs", "local/src/**/*.rs"):
            for source in map(pathlib.Path.read_text, ROOT.glob(pattern)):
                source = source.split("\nmod tests {")[0]
                constants = dict(re.findall(r'const (\w+): &str = "([A-Z0-9_]+)";', source))
                calls = r'(?:\.(?:text|number|flag)\(|\bkey\(environment,)\s*(?:"([A-Z0-9_]+)"|([A-Z]+)\b)'
                names = re.findall(calls, source)
                literals |= set(re.findall(r'"([A-Z][A-Z0-9_]+)"', source))
                read |= {name or constants[constant] for name, constant in names}
        self.assertLessEqual(read, set(table), "the code reads a setting that the README does not list")
        self.assertLessEqual(set(table), literals, "the README lists a setting that the code does not read")
        for function in self.stacks["IAM"].of_type("AWS::Lambda::Function").values():
            variables = set(function.get("Environment", {"Variables": {}})["Variables"]) - {"REVISION"}
            self.assertLessEqual(variables, set(table), "the template sets a variable that the README does not list")
        example = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
        # `local` runs none of these.
        other = "`(purge|migrate|courier)` only"
        self.assertEqual(example, {name for name, about in table.items() if not re.search(other, about)})

    @with_each_database
    def test_no_secret_is_in_plain_text(self, stack):
        for name, about in stack.raw["Parameters"].items():
            if re.search(r"(?i)password|secret|key", name):
                self.assertRegex(name, r"Arn$|^(PasswordContext|PasswordMinLength|SecretsEndpoint|SigningKey)$")
        text = json.dumps(stack.raw)
        self.assertNotRegex(text, r"postgres(ql)?://[^/\"@]*:[^/\"@]*@")
        for name, secret in stack.of_type("AWS::SecretsManager::Secret").items():
            self.assertNotIn("SecretString", secret)
            self.assertGreaterEqual(secret["GenerateSecretString"]["PasswordLength"], 40)
        for name in ("SigningKeyBlue", "SigningKeyGreen"):
            self.assertEqual(stack.resources[name]["Properties"]["GenerateSecretString"]["PasswordLength"], 64)
        for name, instance in stack.of_type("AWS::RDS::DBInstance").items():
            self.assertRegex(instance["MasterUserPassword"], r"^\{\{resolve:secretsmanager:<OwnerSecret>:SecretString:password}}$")

    def test_a_changed_parameter_is_a_new_version(self):
        # The name of a version is a hash of the function's text in the template, where a parameter is only a name.
        # REVISION represents the values of the parameters, so it has to change with them.
        environments = tomllib.loads((ROOT / "samconfig.toml").read_text())
        parameters = [sorted(environments[name]["deploy"]["parameters"]["parameter_overrides"])
                      for name in ("production", "staging")]
        digest = hashlib.sha256(json.dumps(parameters).encode()).hexdigest()[:6]
        for function in self.stacks["IAM"].of_type("AWS::Lambda::Function").values():
            revision = function.get("Environment", {"Variables": {}})["Variables"].get("REVISION")
            if function["FunctionName"] in (f"{STACK}-migrate", f"{STACK}-purge", f"{STACK}-docs", f"{STACK}-courier"):
                self.assertIsNone(revision)
            else:
                self.assertRegex(revision, f"^[0-9]+-{digest}$", f"the parameters have changed: set REVISION to N-{digest}")

    def test_parameters_in_samconfig_are_declared_and_valid(self):
        environments = tomllib.loads((ROOT / "samconfig.toml").read_text())
        for name in ("staging", "production"):
            settings = environments[name]["deploy"]["parameters"]
            self.assertEqual(settings["capabilities"], "CAPABILITY_IAM")
            parameters = dict(pair.split("=", 1) for pair in settings["parameter_overrides"])
            stack = Expanded(parameters)
            for name, value in parameters.items():
                about = stack.raw["Parameters"][name]
                self.assertRegex(value, about.get("AllowedPattern", "."))
                self.assertIn(value, list(map(str, about.get("AllowedValues", [value]))))

    # --- Logs, alarms, deployment

    @with_each_database
    def test_logs_are_json_and_expire(self, stack):
        groups = stack.of_type("AWS::Logs::LogGroup")
        for group in groups.values():
            self.assertEqual(group["RetentionInDays"], "30")
        for name, function in stack.of_type("AWS::Lambda::Function").items():
            self.assertEqual(function["LoggingConfig"]["LogFormat"], "JSON")
            self.assertEqual(function["LoggingConfig"]["LogGroup"], f"<{name}Log>")
            self.assertEqual(groups[f"{name}Log"]["LogGroupName"], f"/aws/lambda/{function['FunctionName']}")

    @with_each_database
    def test_every_function_has_its_alarms(self, stack):
        alarms = stack.of_type("AWS::CloudWatch::Alarm")
        for alarm in alarms.values():
            self.assertEqual(alarm["AlarmActions"], ["<AlarmTopic>"])
        watched = {(dimension["Value"], alarm["MetricName"], alarm.get("ExtendedStatistic"))
                   for alarm in alarms.values() for dimension in alarm.get("Dimensions", [])}
        own = {alarm["MetricName"] for alarm in alarms.values() if alarm["Namespace"] == f"people/{STACK}"}
        filters = stack.of_type("AWS::Logs::MetricFilter")
        shown = {metric[1] for metric in self.dashboard(stack) if metric[0] == f"people/{STACK}"}
        self.assertEqual(own | shown, {f["MetricTransformations"][0]["MetricName"] for f in filters.values()})
        # Those of outbox are below. Who invokes admin sees whether it fails.
        for name in [*SERVING, "Migrate", "Purge", "Courier", *self.docs(stack)]:
            self.assertIn((f"<{name}>", "Errors", None), watched)
            self.assertIn((f"<{name}>", "Throttles", None), watched)
        for name in SERVING:
            self.assertIn((f"<{name}>", "Duration", "p95"), watched)
            self.assertIn((f"<{name}>", "Duration", "p99"), watched)
        for name in [*SERVING, *self.docs(stack)]:
            self.assertEqual(filters[f"{name}Failures"]["LogGroupName"], f"<{name}Log>")
            self.assertEqual(filters[f"{name}Failures"]["FilterPattern"], "{ $.status >= 500 }")
        for name, log in (("LockOuts", "<LoginLog>"), ("CredentialsLockOuts", "<CredentialsLog>")):
            self.assertEqual(filters[name]["LogGroupName"], log)
            self.assertEqual(filters[name]["FilterPattern"], '{ $.event = "authn_login_fail_max" }')
            self.assertEqual(filters[name]["MetricTransformations"][0]["MetricName"], "LockOuts")

    @with_each_database
    def test_an_alarm_is_raised_when_something_waits_for_five_minutes_or_is_lost(self, stack):
        alarms = stack.of_type("AWS::CloudWatch::Alarm")
        oldest = alarms["OutboxOldestAlarm"]
        # It is also raised when nothing is logged, since outbox does not run or fails.
        self.assertEqual((oldest["Statistic"], oldest["Threshold"], oldest["Period"] * oldest["EvaluationPeriods"]),
                         ("Maximum", 300, 300))
        self.assertEqual((oldest["ComparisonOperator"], oldest["TreatMissingData"]),
                         ("GreaterThanOrEqualToThreshold", "breaching"))
        for alarm, function, metric in (("OutboxDestinationAlarm", "Outbox", "DestinationDeliveryFailures"),
                                        ("CourierDroppedAlarm", "Courier", "AsyncEventsDropped")):
            found = alarms[alarm]
            self.assertEqual((found["Namespace"], found["MetricName"], found["Threshold"]), ("AWS/Lambda", metric, 1))
            self.assertEqual(found["Dimensions"], [{"Name": "FunctionName", "Value": f"<{function}>"}])

    @with_each_database
    def test_every_figure_is_logged(self, stack):
        logged = {"Login": "shared/src/telemetry.rs", "Register": "shared/src/telemetry.rs",
                  "Credentials": "shared/src/telemetry.rs",
                  "Outbox": "functions/outbox/mod.rs", "Courier": "functions/courier/mod.rs"}
        for name, metric in stack.of_type("AWS::Logs::MetricFilter").items():
            source = logged.get(metric["LogGroupName"].strip("<>").removesuffix("Log"))
            if event := re.search(r'\$\.event = (".*")', metric["FilterPattern"]):
                self.assertIn(event.group(1), (ROOT / source).read_text(), name)
            elif "$.status" not in metric["FilterPattern"]:
                member = re.match(r"\{ \$\.(\w+) >=? 0 }$", metric["FilterPattern"]).group(1)
                self.assertEqual(metric["MetricTransformations"][0]["MetricValue"], f"$.{member}")
                self.assertRegex((ROOT / source).read_text(), rf"tracing::info!\([^;]*\b{member}\b", name)

    def dashboard(self, stack):
        """The metrics of the dashboard, written in full: namespace, name, and dimensions."""
        metrics, before = [], []
        for widget in json.loads(stack.resources["Dashboard"]["Properties"]["DashboardBody"])["widgets"]:
            self.assertEqual((widget["type"], widget["properties"]["region"]), ("metric", REGION))
            for metric in widget["properties"]["metrics"]:
                if metric[0] == "...":
                    metric = before[:len(before) - len(metric) + 1] + metric[1:]
                before = [before[at] if part == "." else part for at, part in enumerate(metric)]
                metrics.append(before)
        return metrics

    @with_each_database
    def test_the_dashboard_shows_metrics_that_exist(self, stack):
        filters = {f["MetricTransformations"][0]["MetricName"] for f in stack.of_type("AWS::Logs::MetricFilter").values()}
        shown = self.dashboard(stack)
        for namespace, name, *dimensions in shown:
            if namespace == f"people/{STACK}":
                self.assertIn(name, filters)
                self.assertEqual(dimensions, [])
            else:
                known = {"AWS/Lambda": ("FunctionName", ["Duration"]), "AWS/ApiGateway": ("ApiId", ["Count", "4xx", "5xx"]),
                         "AWS/RDS": ("DBInstanceIdentifier", ["DatabaseConnections"])}
                self.assertEqual(dimensions[0], known[namespace][0])
                self.assertIn(name, known[namespace][1])
                self.assertIn(dimensions[1].strip("<>"), stack.present)
        durations = sorted(dimensions[1] for _, name, *dimensions in shown if name == "Duration")
        functions = SERVING | {"Outbox", "Courier"}
        self.assertEqual(durations, sorted(2 * [f"<{name}>" for name in functions]), "p50 and p95 of every function")
        self.assertEqual("DatabaseConnections" in {metric[1] for metric in shown}, "Database" in stack.present)

    @with_each_database
    def test_traffic_shifts_gradually_and_alarms_roll_back(self, stack):
        groups = stack.of_type("AWS::CodeDeploy::DeploymentGroup")
        self.assertEqual(set(groups), {f"{name}DeploymentGroup" for name in SERVING | self.docs(stack)})
        for name in SERVING | self.docs(stack):
            # docs only returns files, so it cannot become slow.
            watched = ("Errors", "Failures") if name == "Docs" else ("Errors", "Failures", "LatencyP99")
            group = groups[f"{name}DeploymentGroup"]
            self.assertIn("Canary10Percent5Minutes", group["DeploymentConfigName"])
            self.assertEqual(group["AutoRollbackConfiguration"]["Enabled"], True)
            self.assertIn("DEPLOYMENT_STOP_ON_ALARM", group["AutoRollbackConfiguration"]["Events"])
            self.assertEqual([alarm["Name"] for alarm in group["AlarmConfiguration"]["Alarms"]],
                             [f"<{name}{kind}Alarm>" for kind in watched])
            self.assertTrue(group["AlarmConfiguration"]["Enabled"])
            self.assertIn("CodeDeployLambdaAliasUpdate", stack.raw["Resources"][f"{name}Aliaslive"]["UpdatePolicy"])

    # --- The database

    def test_a_created_database_is_encrypted_private_backed_up_and_protected_from_deletion(self):
        for name in ("a secret", "IAM"):
            self.assertEqual(self.stacks[name].of_type("AWS::RDS::DBInstance"), {})
        for name in ("created", "created behind a proxy"):
            stack = self.stacks[name]
            database = stack.resources["Database"]
            self.assertEqual(database["DeletionPolicy"], "Snapshot")
            self.assertEqual(database["UpdateReplacePolicy"], "Snapshot")
            expected = {"Engine": "postgres", "EngineVersion": "18", "StorageEncrypted": True, "PubliclyAccessible": False,
                        "DeletionProtection": "true", "EnableIAMDatabaseAuthentication": True,
                        "AutoMinorVersionUpgrade": True, "CopyTagsToSnapshot": True}
            self.assertEqual({key: database["Properties"].get(key) for key in expected}, expected)
            self.assertGreaterEqual(int(database["Properties"]["BackupRetentionPeriod"]), 7)
            self.assertEqual(stack.resources["DatabaseParameters"]["Properties"]["Parameters"]["rds.force_ssl"], "1")

    def test_only_the_functions_can_reach_a_created_database(self):
        for name in ("created", "created behind a proxy"):
            stack = self.stacks[name]
            functions = {f["VpcConfig"]["SecurityGroupIds"][0] for name, f in stack.of_type("AWS::Lambda::Function").items()
                         if name not in OUTSIDE}
            self.assertEqual(functions, {"<FunctionSecurityGroup>"})
            for group in stack.of_type("AWS::EC2::SecurityGroup").values():
                self.assertEqual(group.get("SecurityGroupIngress", []), [])
                for rule in group["SecurityGroupEgress"]:
                    self.assertNotIn(rule.get("CidrIp"), ["0.0.0.0/0"])
            for rule in stack.of_type("AWS::EC2::SecurityGroupIngress").values():
                self.assertIn(rule["SourceSecurityGroupId"], ["<FunctionSecurityGroup>", "<ProxySecurityGroup>"])
                self.assertEqual(rule["FromPort"], rule["ToPort"])

    def test_the_proxy_requires_tls_and_has_no_password(self):
        stack = self.stacks["created behind a proxy"]
        proxy = stack.resources["Proxy"]["Properties"]
        self.assertEqual((proxy["RequireTLS"], proxy["DefaultAuthScheme"]), (True, "IAM_AUTH"))
        self.assertNotIn("Auth", proxy)
        self.assertNotIn("Proxy", self.stacks["created"].present)

    @with_each_database
    def test_outputs_name_the_url_and_the_migrate_function(self, stack):
        self.assertEqual(stack.outputs["Url"], "<Gateway.ApiEndpoint>")
        self.assertEqual(stack.outputs["MigrateFunction"], "<Migrate>")


if __name__ == "__main__":
    unittest.main()
