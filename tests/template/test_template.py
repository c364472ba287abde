#!/usr/bin/env python3
"""Checks what template.yaml and the templates in deploy/ expand to.

    python tests/template/test_template.py

It needs the Python packages that `pip install aws-sam-cli` brings, and no network.
"""

import functools
import graphlib
import json
import pathlib
import re
import sys
import tomllib
import unittest
import warnings

import lint
from expanded import (
    ACCOUNT, COMMON, DATABASE, DATABASES, IAM, MAIL, NETWORK, REGION, ROOT, SCENARIOS, SECRET, STACK, Expanded,
    yaml_parse)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from samcli.cli.types import CfnParameterOverridesType

sys.path.append(str(ROOT / "tests"))
from functions import functions  # noqa: E402

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
# Connect as a role that cannot read password hashes.
LIMITED = {"Logout", "Me", "Account", "Health", "Authorizer", "Purge"}
# Never more than one instance.
SINGLE = {"Outbox", "Admin"}
# Without a database, so outside of the VPC.
OUTSIDE = {"Docs", "Courier", "Verify"}
# Versions and a gradual shift of traffic.
SHIFTED = SERVING | {"Docs"}
GATEWAY_TIMEOUT = 30
HANDLER_DEADLINE = 10

# The only statements with a wildcard: actions without resource-level permissions, or for which AWS documents it; and
# the versions of this stack's functions.
WILDCARDS = [
    ("NetworkPolicy", "Allow", ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"], ["*"]),
    ("NetworkPolicy", "Allow",
     ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses",
      "ec2:UnassignPrivateIpAddresses"], [f"arn:aws:ec2:{REGION}:*:*/*"]),
    ("VerifyPolicy", "Allow", ["lambda:InvokeFunction"], [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}-*:*"]),
    ("VerifyPolicy", "Allow", ["codedeploy:GetDeployment", "codedeploy:PutLifecycleEventHookExecutionStatus"],
     [f"arn:aws:codedeploy:{REGION}:{ACCOUNT}:deploymentgroup:{STACK}-*/*"]),
    ("VerifyPolicy", "Allow", ["codedeploy:GetApplicationRevision"],
     [f"arn:aws:codedeploy:{REGION}:{ACCOUNT}:application:{STACK}-*"]),
]
# The only AWS managed policy: what CodeDeploy needs, as SAM attaches it.
MANAGED = {"arn:aws:iam::aws:policy/service-role/AWSCodeDeployRoleForLambda"}


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
        cls.stacks = {name: Expanded(COMMON | parameters) for name, parameters in SCENARIOS.items()}
        cls.alarms = cls.stacks["IAM"].nested("Alarms")
        cls.databases = {name: Expanded(parameters, "deploy/database.yaml") for name, parameters in DATABASES.items()}

    def statements(self, stack):
        """Every statement of every policy, with the resource that it is in."""
        roles = stack.nested("Roles")
        self.assertEqual((stack.of_type("AWS::IAM::Role"), stack.of_type("AWS::IAM::ManagedPolicy")), ({}, {}))
        for name, role in roles.of_type("AWS::IAM::Role").items():
            for policy in role.get("Policies", []):
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield name, statement
        for name, policy in roles.of_type("AWS::IAM::ManagedPolicy").items():
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement

    def allowed(self, stack, function):
        """What a function's role may do: action → resources."""
        roles = stack.nested("Roles")
        role = roles.resources[f"{function.lower()}Role"]["Properties"]
        documents = [policy["PolicyDocument"] for policy in role["Policies"]]
        for reference in role.get("ManagedPolicyArns", []):
            documents.append(roles.resources[reference.strip("<>")]["Properties"]["PolicyDocument"])
        documents += [policy["PolicyDocument"] for policy in roles.of_type("AWS::IAM::ManagedPolicy").values()
                      if f"<{function.lower()}Role>" in policy.get("Roles", [])]
        may = {}
        for document in documents:
            for statement in document["Statement"]:
                if statement["Effect"] == "Allow":
                    for action in each(statement["Action"]):
                        may.setdefault(action, []).extend(each(statement["Resource"]))
        return may

    def docs(self, stack):
        """The function Docs, where it has routes."""
        return {"Docs"} if stack.parameters["ServeDocs"] == "true" else set()

    # --- Functions and directories

    def test_every_directory_is_a_function_and_vice_versa(self):
        declared = {name: resource for name, resource in self.source["Resources"].items()
                    if resource["Type"] == "AWS::Serverless::Function"}
        directories = {path.parent.name for path in (ROOT / "functions").glob("*/main.rs")}
        self.assertEqual({function["name"] for function in FUNCTIONS.values()}, directories)
        verify = declared.pop("Verify")
        self.assertEqual(set(declared), set(FUNCTIONS), "template.yaml declares other functions than functions/lib.rs lists")
        manifest = tomllib.loads((ROOT / "functions/Cargo.toml").read_text())
        self.assertEqual({binary["name"] for binary in manifest["bin"]}, directories, "functions/Cargo.toml")
        self.assertEqual(self.source["Globals"]["Function"]["CodeUri"], "functions")
        for name, resource in declared.items():
            self.assertEqual(resource["Metadata"],
                             {"BuildMethod": "rust-cargolambda", "BuildProperties": {"Binary": name.lower()}})
        # Python needs no build, but a file and a function in it.
        module, function = verify["Properties"]["Handler"].split(".")
        source = (ROOT / verify["Properties"]["CodeUri"] / f"{module}.py").read_text()
        self.assertIn(f"def {function}(", source)

    def test_the_template_is_short_and_so_is_one_more_function(self):
        lines = (ROOT / "template.yaml").read_text().splitlines()
        self.assertLess(len(lines), 1000)
        start = lines.index("  Logout:")
        own = lines[start:lines.index("", start)]
        elsewhere = [line for path in ("template.yaml", "deploy/roles.yaml", "deploy/rollback.yaml", "deploy/alarms.yaml")
                     for line in (ROOT / path).read_text().splitlines()
                     if re.search(r"\blogout|Logout|/auth/logout", line) and line not in own]
        self.assertLessEqual(len(own) + len(elsewhere), 40)

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
        self.assertEqual(set(functions), {*FUNCTIONS, "Verify"})
        for name, function in functions.items():
            self.assertEqual(function["Runtime"], "python3.13" if name == "Verify" else "provided.al2023")
            self.assertEqual(function["Architectures"], ["x86_64"])
            # Our lines have what a trace would show, and a trace costs more than a request.
            self.assertNotIn("TracingConfig", function)
            if name in SHIFTED:
                self.assertGreater(function["Timeout"], HANDLER_DEADLINE)
                self.assertLess(function["Timeout"], GATEWAY_TIMEOUT)
                self.assertLessEqual(function["MemorySize"], 1769)

    @with_each_database
    def test_functions_that_hash_have_a_whole_vcpu_and_limits_apply(self, stack):
        for name, function in stack.of_type("AWS::Lambda::Function").items():
            hashes = name in FUNCTIONS and "passwords" in FUNCTIONS[name]["needs"]
            self.assertEqual(function["MemorySize"], 1769 if hashes else 256)
            limit = "1" if name in SINGLE else stack.parameters.get(f"{name}Concurrency", "none")
            self.assertEqual(str(function.get("ReservedConcurrentExecutions", "none")), limit)

    def test_in_an_account_with_a_small_limit_no_concurrency_is_reserved(self):
        none = {f"{name}Concurrency": "none" for name in SERVING}
        for function in Expanded(COMMON | IAM | none).of_type("AWS::Lambda::Function").values():
            self.assertNotIn("ReservedConcurrentExecutions", function)

    def test_two_versions_of_all_functions_fit_the_connections_of_the_smallest_database(self):
        # db.t4g.small: 190 connections, of which RDS and administrators take five. Migrate, purge and the single ones:
        # one each.
        parameters = self.stacks["IAM"].parameters
        limits = sum(int(parameters[f"{name}Concurrency"]) for name in SERVING)
        self.assertLessEqual(2 * limits + 2 + len(SINGLE), 190 - 5)
        threshold = int(self.databases["instance"].parameters["ConnectionsAlarmThreshold"])
        self.assertTrue(2 * limits + 2 + len(SINGLE) <= threshold < 190 - 5, threshold)
        self.assertIn(f" = {limits}.", (ROOT / "docs/database.md").read_text(), "docs/database.md has another sum")

    def test_the_build_and_the_functions_agree_on_the_architecture(self):
        environments = tomllib.loads((ROOT / "samconfig.toml").read_text())
        built, = environments["default"]["build"]["parameters"]["parameter_overrides"]
        for name in ("staging", "production"):
            self.assertIn(built, environments[name]["deploy"]["parameters"]["parameter_overrides"])

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
        docs = [("Docs", event, route) for event, route in DOCS.items()]
        if self.docs(stack):
            expected += docs
        self.assertEqual(set(routes), {route for _, _, route in expected})
        for name, event, route in expected:
            integration = routes[route]["x-amazon-apigateway-integration"]
            self.assertIn(f"/functions/<{name}Aliaslive>/invocations", integration["uri"])
            self.assertEqual(integration["payloadFormatVersion"], "2.0")
            permission = stack.resources[f"{name}{event}Permission"]["Properties"]
            self.assertEqual(permission["FunctionName"], f"<{name}Aliaslive>")
            path = re.sub(r"\{.*?\}", "*", route[1])
            self.assertTrue(permission["SourceArn"].endswith(f"/*/{route[0].upper()}{path}"), permission)
        # Besides the routes, only the schedules and the gateways below may invoke a function. SAM permits an absent
        # route, too.
        self.assertEqual(len(stack.of_type("AWS::Lambda::Permission")), len(ROUTES) + len(docs) + len(SCHEDULED) + 1)

    def test_gateways_of_this_account_and_of_named_ones_may_invoke_the_authorizer(self):
        others = ["210987654321", "111122223333", "444455556666"]
        for named in range(len(others) + 1):
            stack = Expanded(COMMON | IAM | {"AuthorizerAccounts": ",".join(others[:named])})
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
    def test_a_failed_job_is_not_tried_again(self, stack):
        self.assertEqual(self.asynchronous(stack, "Purge")["MaximumRetryAttempts"], 0)
        # Whoever invokes a migration tries again.
        self.assertEqual(self.asynchronous(stack, "Migrate")["MaximumRetryAttempts"], 0)

    @with_each_database
    def test_every_route_is_throttled(self, stack):
        stage, = stack.of_type("AWS::ApiGatewayV2::Stage").values()
        # The settings of a route that does not exist would fail the deployment: those of Docs and of mail have the
        # default.
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
        self.assertEqual(self.allowed(stack, "Outbox")["lambda:InvokeFunction"],
                         [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}-courier"])
        for function in set(FUNCTIONS) - {"Outbox"}:
            self.assertNotIn("lambda:InvokeFunction", self.allowed(stack, function))

    @with_each_database
    def test_courier_sends_and_can_do_nothing_else(self, stack):
        self.assertNotIn("VpcConfig", stack.of_type("AWS::Lambda::Function")["Courier"])
        mail = stack.parameters["MailFrom"] != ""
        may = {action: resources for action, resources in self.allowed(stack, "Courier").items()
               if not action.startswith("logs:")}
        expected = {"events:PutEvents": [f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{STACK}"]}
        self.assertEqual(stack.resources["EventBus"]["Properties"]["Name"], STACK)
        if mail:
            expected["ses:SendEmail"] = [f"arn:aws:ses:{REGION}:{ACCOUNT}:identity/example.com"]
        self.assertEqual(may, expected)

    def test_without_a_sender_no_route_identity_or_permission_for_mail_exists(self):
        for name, stack in self.stacks.items():
            text = json.dumps(stack.nested("Roles").resources)
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
        plain = Expanded(COMMON | IAM | MAIL | {"MailFrom": "no-reply@example.com"})
        self.assertEqual(plain.of_type("AWS::SES::EmailIdentity")["MailIdentity"]["EmailIdentity"], "example.com")

    @with_each_database
    def test_operators_and_other_services_find_what_they_need_in_the_outputs(self, stack):
        self.assertEqual(stack.outputs["AdminFunctionArn"], "<Admin.Arn>")
        self.assertEqual(stack.outputs["EventBusArn"], "<EventBus.Arn>")

    # --- Other routes, and origins

    def test_with_serve_docs_false_docs_has_no_route(self):
        self.assertNotIn("/docs", json.dumps(self.stacks["a proxy"].resources["Gateway"]))
        production = tomllib.loads((ROOT / "samconfig.toml").read_text())["production"]
        self.assertIn("ServeDocs=false", production["deploy"]["parameters"]["parameter_overrides"])

    def test_with_a_name_of_its_own_the_gateway_has_no_other(self):
        for name, stack in self.stacks.items():
            own = name == "a proxy"
            server, = stack.resources["Gateway"]["Properties"]["Body"]["servers"]
            self.assertEqual(server["x-amazon-apigateway-endpoint-configuration"]["disableExecuteApiEndpoint"], own)
            self.assertEqual("Domain" in stack.present, own)
            self.assertEqual(stack.outputs["Url"], "https://api.example.com" if own else "<Gateway.ApiEndpoint>")
        mapping = self.stacks["a proxy"].resources["DomainMapping"]["Properties"]
        self.assertEqual(mapping, {"ApiId": "<Gateway>", "DomainName": "<Domain>", "Stage": "<GatewayApiGatewayDefaultStage>"})

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
            expected = [entry for entry in WILDCARDS if entry[0] in stack.nested("Roles").present]
            self.assertEqual(sorted(found), sorted(expected), name)

    @with_each_database
    def test_verify_invokes_only_functions_that_shift_traffic(self, stack):
        # Of the others there is no version but this.
        denied = [statement["Resource"] for resource, statement in self.statements(stack)
                  if resource == "VerifyPolicy" and statement["Effect"] == "Deny"]
        self.assertEqual(denied, [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}-*:$LATEST"])

    @with_each_database
    def test_roles_can_be_assumed_by_their_service_only(self, stack):
        for name, role in stack.nested("Roles").of_type("AWS::IAM::Role").items():
            statement, = role["AssumeRolePolicyDocument"]["Statement"]
            service = {"CodeDeployRole": "codedeploy"}.get(name, "lambda")
            self.assertEqual(each(statement["Principal"]["Service"]), [f"{service}.amazonaws.com"])
            attached = {arn for arn in role.get("ManagedPolicyArns", []) if not arn.startswith("<")}
            self.assertLessEqual(attached, MANAGED if name == "CodeDeployRole" else set())
        for group in stack.of_type("AWS::CodeDeploy::DeploymentGroup").values():
            self.assertEqual(group["ServiceRoleArn"], "<Roles.Outputs.CodeDeployRole>")

    def test_each_function_has_its_own_role_with_only_the_permissions_it_needs(self):
        secrets = {"a secret": [SECRET + "application"], "IAM": [], "a proxy": []}
        # Where it is about to move, the version that still has the traffic connects to the former database.
        connect = {"a secret": [], "IAM": ["db-ABC"], "a proxy": ["prx-DEF", "db-ABC"]}
        network = {"ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces",
                   "ec2:DescribeSubnets", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"}
        always = {"logs:CreateLogStream", "logs:PutLogEvents"}
        for database, stack in self.stacks.items():
            for name, function in stack.of_type("AWS::Lambda::Function").items():
                with self.subTest(database=database, function=name):
                    self.assertEqual(function["Role"], f"<Roles.Outputs.{name.lower()}Role>")
                    may = self.allowed(stack, name)
                    for action in always:
                        self.assertEqual(may[action], [f"<{name.lower()}Log.Arn>"])
                    if name in OUTSIDE:
                        own = {"Courier": {"events:PutEvents", "ses:SendEmail"}, "Docs": set(),
                               "Verify": {"lambda:InvokeFunction", "codedeploy:GetDeployment",
                                          "codedeploy:GetApplicationRevision", "codedeploy:PutLifecycleEventHookExecutionStatus"}}[name]
                        self.assertLessEqual(set(may), always | own)
                        self.assertNotIn("VpcConfig", function)
                        continue
                    expected = set(always)
                    if "SubnetIds" in SCENARIOS[database]:
                        expected |= network
                        self.assertEqual(function["VpcConfig"], {"SubnetIds": NETWORK["SubnetIds"].split(","),
                                                                 "SecurityGroupIds": [NETWORK["SecurityGroupIds"]]})
                    else:
                        self.assertNotIn("VpcConfig", function)
                    reads = list(secrets[database])
                    if name == "Migrate":
                        reads.insert(0, SECRET + "owner")
                        if stack.parameters["SecretsKmsKeyArn"]:
                            expected.add("kms:Decrypt")
                    else:
                        if name == "Outbox":
                            expected.add("lambda:InvokeFunction")
                        if "keys" in FUNCTIONS[name]["needs"]:
                            reads += ["<SigningKeyBlue>", "<SigningKeyGreen>"]
                        if connect[database]:
                            expected.add("rds-db:connect")
                            self.assertEqual(may["rds-db:connect"],
                                             [f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:{id}/{self.user(name)}"
                                              for id in connect[database]])
                    if reads:
                        expected.add("secretsmanager:GetSecretValue")
                    self.assertEqual(sorted(may.get("secretsmanager:GetSecretValue", [])), sorted(reads))
                    self.assertEqual(set(may), expected)

    def test_only_functions_that_hash_or_make_links_connect_as_the_role_that_reads_hashes(self):
        full = set(FUNCTIONS) - LIMITED - OUTSIDE - {"Migrate"}
        self.assertEqual(full, {"Register", "Login", "Credentials", "Outbox", "Admin"})
        self.assertFalse({name for name in LIMITED if "passwords" in FUNCTIONS[name]["needs"]})

    def user(self, function):
        """The role as which a function connects to the database."""
        return "people_limited" if function in LIMITED else "people_app"

    def test_every_role_is_bounded_where_a_boundary_is_given(self):
        for name, role in self.stacks["a proxy"].nested("Roles").of_type("AWS::IAM::Role").items():
            self.assertEqual(role.get("PermissionsBoundary"), SCENARIOS["a proxy"]["PermissionsBoundary"], name)
        for role in self.stacks["IAM"].nested("Roles").of_type("AWS::IAM::Role").values():
            self.assertNotIn("PermissionsBoundary", role)

    def test_a_functions_code_cannot_use_the_permissions_that_attach_it_to_the_vpc(self):
        statements = [s for name, s in self.statements(self.stacks["IAM"]) if name == "NetworkPolicy"]
        allowed = {action for s in statements if s["Effect"] == "Allow" for action in s["Action"]}
        denied, = [s for s in statements if s["Effect"] == "Deny"]
        self.assertEqual(set(denied["Action"]), allowed)
        self.assertEqual(denied["Condition"]["ArnLike"]["lambda:SourceFunctionArn"],
                         f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}-*")
        for name, function in self.stacks["IAM"].of_type("AWS::Lambda::Function").items():
            self.assertEqual(function["FunctionName"], f"{STACK}-{name.lower()}")

    # --- Settings and secrets

    def test_settings_of_the_functions(self):
        common = {"SECRET_KEY": "", "ALGORITHM": "HS256", "ACCESS_TOKEN_EXPIRE_MINUTES": "60",
                  "SESSION_IDLE_MINUTES": "0", "TOKEN_ISSUER": "people",
                  "PASSWORD_MIN_LENGTH": "8", "PASSWORD_CONTEXT": "", "FAILURES_PER_ADDRESS": "50",
                  "REGISTRATIONS_PER_ADDRESS_PER_HOUR": "100",
                  "SECRET_KEY_ARN": "<SigningKeyBlue>", "SECRET_KEY_PREVIOUS_ARN": "<SigningKeyGreen>",
                  "TRUSTED_PROXY": "", "TRUSTED_PROXY_SECRET": "", "REVISION": "restart-1",
                  "DATABASE_SECRET_ARN": "", "DATABASE_IAM_AUTH": "true", "DATABASE_POOLER": "none"}
        differences = {
            "a secret": {"DATABASE_SECRET_ARN": SECRET + "application", "DATABASE_IAM_AUTH": "false"},
            "IAM": {},
            "a proxy": {"DATABASE_POOLER": "transaction", "TRUSTED_PROXY": "cloudfront",
                        "TRUSTED_PROXY_SECRET": "{{resolve:secretsmanager:" + SECRET + "header}}",
                        "SECRET_KEY_ARN": "<SigningKeyGreen>", "SECRET_KEY_PREVIOUS_ARN": "<SigningKeyBlue>"},
        }
        for database, stack in self.stacks.items():
            host = stack.parameters["DatabaseHost"]
            for name, function in stack.of_type("AWS::Lambda::Function").items():
                with self.subTest(database=database, function=name):
                    if name in ("Docs", "Verify"):
                        self.assertNotIn("Environment", function)
                        continue
                    variables = function["Environment"]["Variables"]
                    sender = {"MAIL_FROM": stack.parameters["MailFrom"]}
                    pages = {"APP_RESET_URL": stack.parameters["AppResetUrl"], "APP_EMAIL_URL": stack.parameters["AppEmailUrl"]}
                    if name == "Courier":
                        self.assertEqual(variables, {"EVENT_BUS": "<EventBus>"} | (sender if sender["MAIL_FROM"] else {}))
                        continue
                    own = {
                        "Login": {"CORS_ALLOWED_ORIGINS": COMMON["CorsOrigins"]},
                        "Credentials": sender | pages | {"MAILS_PER_ADDRESS_PER_HOUR": "20"},
                        "Purge": {"SESSION_RETENTION_DAYS": "7"},
                        "Outbox": sender | pages,
                        "Admin": sender,
                        # As the owner, without a pooler.
                        "Migrate": {"DATABASE_SECRET_ARN": SECRET + "owner", "DATABASE_URL": "", "DATABASE_IAM_AUTH": "false",
                                    "DATABASE_POOLER": "none", "APPLICATION_ROLE": "people_app", "LIMITED_ROLE": "people_limited",
                                    "APPLICATION_SECRET_ARN": SECRET + "application" if database == "a secret" else ""},
                    }.get(name, {})
                    url = f"postgres://{self.user(name)}@{host}:5432/people" if host else ""
                    self.assertEqual(variables, common | {"DATABASE_URL": url} | differences[database] | own)

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
        # Lambda sets it.
        read.discard("AWS_LAMBDA_FUNCTION_VERSION")
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
                self.assertRegex(name, r"Arn$|^(PasswordContext|PasswordMinLength|SigningKey)$")
        text = json.dumps(stack.raw)
        self.assertNotRegex(text, r"postgres(ql)?://[^/\"@]*:[^/\"@]*@")
        for name, secret in stack.of_type("AWS::SecretsManager::Secret").items():
            self.assertNotIn("SecretString", secret)
            self.assertGreaterEqual(secret["GenerateSecretString"]["PasswordLength"], 40)
        for name in ("SigningKeyBlue", "SigningKeyGreen"):
            self.assertEqual(stack.resources[name]["Properties"]["GenerateSecretString"]["PasswordLength"], 64)

    def test_every_parameter_is_named_in_samconfig_and_valid(self):
        environments = tomllib.loads((ROOT / "samconfig.toml").read_text())
        for name in ("staging", "production"):
            settings = environments[name]["deploy"]["parameters"]
            self.assertEqual(settings["capabilities"], ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"])
            parameters = CfnParameterOverridesType().convert(tuple(settings["parameter_overrides"]), None, None)
            stack = Expanded(parameters)
            self.assertEqual(set(parameters), set(stack.raw["Parameters"]))
            for name, value in parameters.items():
                about = stack.raw["Parameters"][name]
                self.assertRegex(value, about.get("AllowedPattern", "^"))
                self.assertIn(value, list(map(str, about.get("AllowedValues", [value]))))

    # --- Logs, alarms, deployment

    @with_each_database
    def test_logs_are_json_and_expire(self, stack):
        groups = stack.nested("Roles").of_type("AWS::Logs::LogGroup")
        for group in [*groups.values(), stack.resources["GatewayLog"]["Properties"]]:
            self.assertEqual(group["RetentionInDays"], "30")
        for name, function in stack.of_type("AWS::Lambda::Function").items():
            self.assertEqual(function["LoggingConfig"]["LogFormat"], "JSON")
            self.assertEqual(function["LoggingConfig"]["LogGroup"], f"<Roles.Outputs.{name.lower()}Log>")
            self.assertEqual(groups[f"{name.lower()}Log"]["LogGroupName"], f"/aws/lambda/{STACK}-{name.lower()}")

    def filters(self):
        """The metric filters of operators' alarms and of the dashboard."""
        return self.alarms.of_type("AWS::Logs::MetricFilter")

    def test_every_function_has_its_alarms(self):
        alarms = self.alarms.of_type("AWS::CloudWatch::Alarm")
        names = [alarm["AlarmName"] for alarm in [*alarms.values(), *self.alarms.of_type("AWS::CloudWatch::CompositeAlarm").values()]]
        self.assertEqual(len(set(names)), len(names))
        watched = set()
        for name, alarm in alarms.items():
            quiet = name in ("GatewayFailures", "AuthorizerErrors")
            self.assertEqual(alarm.get("AlarmActions"), None if quiet else ["<Topic>"])
            metric = alarm.get("Metrics", [{"MetricStat": {"Metric": alarm, "Stat": alarm.get("Statistic")}}])[0]["MetricStat"]
            watched |= {(dimension["Value"], metric["Metric"]["MetricName"], metric["Stat"])
                        for dimension in metric["Metric"].get("Dimensions", [])}
        for name in [*SHIFTED, "Migrate", "Courier"]:
            function = f"{STACK}-{name.lower()}"
            self.assertIn((function, "Errors", "Sum"), watched)
            self.assertIn((function, "Throttles", "Sum"), watched)
            if name in SHIFTED:
                self.assertIn((function, "Duration", "p95"), watched)
                self.assertIn((function, "Duration", "p99"), watched)
                failures = self.filters()[f"{name.lower()}Failures"]
                self.assertEqual((failures["LogGroupName"], failures["FilterPattern"]),
                                 (f"/aws/lambda/{function}", "{ $.status >= 500 && $.status != 503 }"))
        own = {alarm["MetricName"] for alarm in alarms.values() if alarm.get("Namespace") == f"people/{STACK}"}
        shown = {metric[1] for metric in self.dashboard() if metric[0] == f"people/{STACK}"}
        self.assertEqual(own | shown, {f["MetricTransformations"][0]["MetricName"] for f in self.filters().values()})
        for name, function in (("LockOuts", "login"), ("CredentialsLockOuts", "credentials")):
            found = self.filters()[name]
            self.assertEqual((found["LogGroupName"], found["FilterPattern"], found["MetricTransformations"][0]["MetricName"]),
                             (f"/aws/lambda/{STACK}-{function}", '{ $.event = "authn_login_fail_max" }', "LockOuts"))

    def test_alarms_watch_functions_and_log_groups_that_exist(self):
        functions = {f"{STACK}-{name.lower()}" for name in FUNCTIONS}
        for text in re.findall(rf"{STACK}-[a-z]+", json.dumps([
                [alarm.get("Dimensions"), alarm.get("Metrics")] for alarm in self.alarms.of_type("AWS::CloudWatch::Alarm").values()])):
            self.assertIn(text, functions)
        logs = {group["LogGroupName"] for group in self.stacks["IAM"].nested("Roles").of_type("AWS::Logs::LogGroup").values()}
        self.assertLessEqual({f["LogGroupName"] for f in self.filters().values()}, logs)
        # They are there before: the alarms need the gateway, which needs the functions, which need their log groups.
        self.assertEqual(self.alarms.parameters["GatewayId"], "<Gateway>")

    def test_an_outage_of_the_database_is_one_alarm(self):
        # 503 is the answer while the database is down, of every function: it has a metric and an alarm of its own.
        for name in SHIFTED:
            found = self.filters()[f"{name.lower()}Unavailable"]
            self.assertEqual((found["FilterPattern"], found["MetricTransformations"][0]["MetricName"]),
                             ("{ $.status = 503 }", "Unavailable"))
        self.assertEqual(self.alarms.resources["UnavailableAlarm"]["Properties"]["MetricName"], "Unavailable")
        for name, metric in (("GatewayFailuresAlarm", "GatewayFailures"), ("AuthorizerErrorsAlarm", "AuthorizerErrors")):
            alarm = self.alarms.resources[name]["Properties"]
            self.assertEqual(alarm["AlarmRule"], f'ALARM("<{metric}>") AND NOT ALARM("<UnavailableAlarm>")')
            self.assertEqual(alarm["AlarmActions"], ["<Topic>"])
            self.assertNotIn("AlarmActions", self.alarms.resources[metric]["Properties"])

    def test_an_alarm_is_raised_when_a_job_does_not_run_or_something_is_lost(self):
        alarms = self.alarms.of_type("AWS::CloudWatch::Alarm")
        oldest = alarms["OutboxOldestAlarm"]
        # It is also raised when nothing is logged, since outbox does not run or fails.
        self.assertEqual((oldest["Statistic"], oldest["Threshold"], oldest["Period"] * oldest["EvaluationPeriods"]),
                         ("Maximum", 300, 300))
        self.assertEqual((oldest["ComparisonOperator"], oldest["TreatMissingData"]),
                         ("GreaterThanOrEqualToThreshold", "breaching"))
        missing = alarms["PurgeMissingAlarm"]
        self.assertEqual((missing["MetricName"], missing["ComparisonOperator"], missing["Threshold"], missing["TreatMissingData"]),
                         ("Invocations", "LessThanThreshold", 1, "breaching"))
        for alarm, function, metric in (("OutboxDestinationAlarm", "outbox", "DestinationDeliveryFailures"),
                                        ("CourierDroppedAlarm", "courier", "AsyncEventsDropped")):
            found = alarms[alarm]
            self.assertEqual((found["Namespace"], found["MetricName"], found["Threshold"]), ("AWS/Lambda", metric, 1))
            self.assertEqual(found["Dimensions"], [{"Name": "FunctionName", "Value": f"{STACK}-{function}"}])
        purge = alarms["PurgeErrorsAlarm"]
        self.assertEqual((purge["Statistic"], purge["Threshold"], purge["Period"]), ("Sum", 2, 6 * 3600))

    def test_every_figure_is_logged(self):
        logged = {"login": "shared/src/telemetry/mod.rs", "register": "shared/src/telemetry/mod.rs",
                  "credentials": "shared/src/telemetry/mod.rs",
                  "outbox": "functions/outbox/mod.rs", "courier": "functions/courier/mod.rs"}
        for name, metric in self.filters().items():
            source = logged.get(metric["LogGroupName"].rsplit("-")[-1])
            if event := re.search(r'\$\.event = (".*")', metric["FilterPattern"]):
                self.assertIn(event.group(1), (ROOT / source).read_text(), name)
            elif "$.status" not in metric["FilterPattern"]:
                member = re.match(r"\{ \$\.(\w+) >=? 0 }$", metric["FilterPattern"]).group(1)
                self.assertEqual(metric["MetricTransformations"][0]["MetricValue"], f"$.{member}")
                self.assertRegex((ROOT / source).read_text(), rf"tracing::info!\([^;]*\b{member}\b", name)

    def dashboard(self):
        """The metrics of the dashboard, written in full: namespace, name, and dimensions."""
        metrics, before = [], []
        for widget in json.loads(self.alarms.resources["Dashboard"]["Properties"]["DashboardBody"])["widgets"]:
            self.assertEqual((widget["type"], widget["properties"]["region"]), ("metric", REGION))
            for metric in widget["properties"]["metrics"]:
                if metric[0] == "...":
                    metric = before[:len(before) - len(metric) + 1] + metric[1:]
                before = [before[at] if part == "." else part for at, part in enumerate(metric)]
                metrics.append(before)
        return metrics

    def test_the_dashboard_shows_metrics_that_exist(self):
        filters = {f["MetricTransformations"][0]["MetricName"] for f in self.filters().values()}
        shown = self.dashboard()
        for namespace, name, *dimensions in shown:
            if namespace == f"people/{STACK}":
                self.assertIn(name, filters)
                self.assertEqual(dimensions, [])
            else:
                known = {"AWS/Lambda": ("FunctionName", ["Duration"]), "AWS/ApiGateway": ("ApiId", ["Count", "4xx", "5xx"])}
                self.assertEqual(dimensions[0], known[namespace][0])
                self.assertIn(name, known[namespace][1])
        durations = sorted(dimensions[1] for _, name, *dimensions in shown if name == "Duration")
        functions = SERVING | {"Outbox", "Courier"}
        self.assertEqual(durations, sorted(2 * [f"{STACK}-{name.lower()}" for name in functions]), "p50 and p95 of every function")

    @with_each_database
    def test_traffic_shifts_gradually_after_the_new_version_was_verified_and_alarms_roll_back(self, stack):
        groups = stack.of_type("AWS::CodeDeploy::DeploymentGroup")
        self.assertEqual(set(groups), {f"{name}DeploymentGroup" for name in SHIFTED})
        for name in SHIFTED:
            group = groups[f"{name}DeploymentGroup"]
            self.assertIn("Canary10Percent5Minutes", group["DeploymentConfigName"])
            self.assertEqual(group["AutoRollbackConfiguration"]["Enabled"], True)
            self.assertIn("DEPLOYMENT_STOP_ON_ALARM", group["AutoRollbackConfiguration"]["Events"])
            self.assertEqual([alarm["Name"] for alarm in group["AlarmConfiguration"]["Alarms"]],
                             [f"<RollBack.Outputs.{name.lower()}NewFailures>", f"<RollBack.Outputs.{name.lower()}NewLatency>"])
            self.assertTrue(group["AlarmConfiguration"]["Enabled"])
            policy = stack.raw["Resources"][f"{name}Aliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
            self.assertEqual(policy["BeforeAllowTrafficHook"], {"Ref": "Verify"})
        # AWS's policy allows CodeDeploy to invoke only functions whose names begin with CodeDeployHook_.
        invoke, = stack.nested("Roles").resources["CodeDeployRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
        self.assertEqual(invoke["Resource"], f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}-verify")

    @with_each_database
    def test_a_roll_back_counts_only_the_version_that_is_deployed(self, stack):
        nested = stack.nested("RollBack")
        alarms, filters = nested.of_type("AWS::CloudWatch::Alarm"), nested.of_type("AWS::Logs::MetricFilter")
        for name in SHIFTED:
            version, = [resource for resource in stack.present if re.fullmatch(rf"{name}Version[0-9a-f]+", resource)]
            number, name = f"<{version}.Version>", name.lower()
            of_lambda = [{"Name": "FunctionName", "Value": f"{STACK}-{name}"}, {"Name": "Resource", "Value": f"{STACK}-{name}:live"},
                         {"Name": "ExecutedVersion", "Value": number}]
            total, errors, failures = alarms[f"{name}NewFailuresAlarm"]["Metrics"]
            self.assertEqual(total["Expression"], "FILL(errors, 0) + FILL(failures, 0)")
            self.assertEqual(errors["MetricStat"]["Metric"],
                             {"Namespace": "AWS/Lambda", "MetricName": "Errors", "Dimensions": of_lambda})
            self.assertEqual(failures["MetricStat"]["Metric"]["Dimensions"], [{"Name": "version", "Value": number}])
            self.assertEqual(alarms[f"{name}NewLatencyAlarm"]["Dimensions"], of_lambda)
            transformation, = filters[f"{name}FailuresByVersion"]["MetricTransformations"]
            self.assertEqual(transformation["MetricName"], failures["MetricStat"]["Metric"]["MetricName"])
            self.assertEqual(transformation["Dimensions"], [{"Key": "version", "Value": "$.version"}])
        # The member of the line.
        self.assertRegex((ROOT / "shared/src/http/runtime.rs").read_text(), r"tracing::error!\([^;]*\bversion\b[^;]*\"request\"\)")

    def test_without_roll_backs_no_alarm_of_a_version_is_raised(self):
        # A deployment group without an alarm cannot be switched on, so each keeps its two.
        stack = Expanded(COMMON | IAM | {"RollBackOnAlarm": "false"}).nested("RollBack")
        usual_stack = self.stacks["IAM"].nested("RollBack")
        for name in SHIFTED:
            for kind, usual in (("Failures", 3), ("Latency", 2500)):
                alarm = f"{name.lower()}New{kind}Alarm"
                self.assertEqual(stack.resources[alarm]["Properties"]["Threshold"], 1000000)
                self.assertEqual(usual_stack.resources[alarm]["Properties"]["Threshold"], usual)

    # --- The database: deploy/database.yaml

    def with_each_kind(self):
        for name, stack in self.databases.items():
            with self.subTest(kind=name):
                yield stack

    def test_a_database_is_encrypted_private_backed_up_and_never_deleted_with_the_service(self):
        source = (ROOT / "template.yaml").read_text()
        self.assertNotRegex(source, r"AWS::RDS|AWS::EC2")
        for stack in self.with_each_kind():
            name, kind = ("Database", "AWS::RDS::DBInstance") if "Database" in stack.present else ("DatabaseCluster", "AWS::RDS::DBCluster")
            database = stack.resources[name]
            self.assertEqual(database["Type"], kind)
            self.assertEqual((database["DeletionPolicy"], database["UpdateReplacePolicy"]), ("Snapshot", "Snapshot"))
            expected = {"StorageEncrypted": True, "KmsKeyId": "<Key.Arn>", "DeletionProtection": "true",
                        "EnableIAMDatabaseAuthentication": True, "CopyTagsToSnapshot": True, "DeleteAutomatedBackups": False}
            self.assertEqual({key: database["Properties"].get(key) for key in expected}, expected)
            self.assertGreaterEqual(int(database["Properties"]["BackupRetentionPeriod"]), 7)
            for instance in stack.of_type("AWS::RDS::DBInstance").values():
                self.assertEqual(instance["PubliclyAccessible"], False)
            groups = [*stack.of_type("AWS::RDS::DBParameterGroup").values(), *stack.of_type("AWS::RDS::DBClusterParameterGroup").values()]
            self.assertEqual([group["Parameters"]["rds.force_ssl"] for group in groups], ["1"])
            self.assertRegex(database["Properties"]["MasterUserPassword"],
                             r"^\{\{resolve:secretsmanager:<OwnerSecret>:SecretString:password}}$")
            self.assertNotIn("SecretString", stack.resources["OwnerSecret"]["Properties"])

    def test_a_restored_database_keeps_the_password_of_its_snapshot(self):
        for parameters in DATABASES.values():
            stack = Expanded(parameters | {"SnapshotIdentifier": "snapshot"}, "deploy/database.yaml")
            database = stack.resources["Database" if "Database" in stack.present else "DatabaseCluster"]["Properties"]
            self.assertIn("snapshot", [database.get("DBSnapshotIdentifier"), database.get("SnapshotIdentifier")])
            for name in ("MasterUsername", "MasterUserPassword", "DBName", "DatabaseName"):
                self.assertNotIn(name, database)

    def test_a_class_without_memory_for_iam_authentication_is_refused(self):
        pattern = self.databases["instance"].raw["Parameters"]["Class"]["AllowedPattern"]
        for refused in ("db.t4g.micro", "db.t3.micro", "db.t4g.nano", "t4g.small"):
            self.assertNotRegex(refused, pattern)
        for accepted in ("db.t4g.small", "db.t4g.medium", "db.m7g.large", "db.r8g.16xlarge"):
            self.assertRegex(accepted, pattern)

    def test_only_the_functions_can_reach_a_database(self):
        for stack in self.with_each_kind():
            for name, group in stack.of_type("AWS::EC2::SecurityGroup").items():
                # Everything in the VPC uses the endpoint, which has the name of Secrets Manager there.
                everything = [rule["CidrIp"] for rule in group.get("SecurityGroupIngress", [])]
                self.assertEqual(everything, ["10.0.0.0/16"] if name == "SecretsEndpointSecurityGroup" else [])
            for rule in stack.of_type("AWS::EC2::SecurityGroupIngress").values():
                self.assertIn(rule["SourceSecurityGroupId"], ["<FunctionSecurityGroup>", "<ProxySecurityGroup>"])
                self.assertEqual((rule["FromPort"], rule["ToPort"]), (5432, 5432))
        # It would take Secrets Manager away from what else is in the VPC, and there can be only one.
        self.assertNotIn("SecretsManagerEndpoint", self.databases["instance"].present)

    def test_the_proxy_requires_tls_and_has_no_password(self):
        for name, stack in self.databases.items():
            if stack.parameters["Proxy"] == "false":
                self.assertNotIn("DatabaseProxy", stack.present)
                continue
            proxy = stack.resources["DatabaseProxy"]["Properties"]
            self.assertEqual((proxy["RequireTLS"], proxy["DefaultAuthScheme"]), (True, "IAM_AUTH"))
            self.assertNotIn("Auth", proxy)
            self.assertEqual(stack.outputs["DatabasePooler"], "transaction")

    def test_alarms_of_a_database(self):
        for stack in self.with_each_kind():
            metrics = {alarm["MetricName"] for alarm in stack.of_type("AWS::CloudWatch::Alarm").values()}
            expected = {"CPUUtilization", "DatabaseConnections", "FreeableMemory", "SwapUsage"}
            if stack.parameters["Kind"] == "instance":
                # The default class is burstable.
                expected |= {"FreeStorageSpace", "CPUCreditBalance"}
            self.assertEqual(metrics, expected)
        large = Expanded(DATABASE | {"Class": "db.m7g.large"}, "deploy/database.yaml")
        self.assertNotIn("CreditsAlarm", large.present)

    def test_the_outputs_of_a_database_are_the_parameters_of_the_service(self):
        parameters = set(self.stacks["IAM"].raw["Parameters"])
        for stack in self.with_each_kind():
            self.assertLessEqual(set(stack.outputs) - {"AlarmTopicArn"}, parameters)
            self.assertLessEqual(set(IAM) | {"DatabasePooler", "SecretsKmsKeyArn"}, set(stack.outputs))

    def test_the_list_of_prices_counts_what_the_templates_create(self):
        counts = tomllib.loads((ROOT / "tests/benches/prices.toml").read_text())["template"]
        nested = (self.alarms, self.stacks["IAM"].nested("RollBack"))
        alarms = [alarm for stack in nested for alarm in stack.of_type("AWS::CloudWatch::Alarm").values()]
        # Each metric of an alarm has the price of an alarm, a composite one that of five.
        watched = sum(sum("MetricStat" in metric for metric in alarm.get("Metrics", [{"MetricStat": 0}])) for alarm in alarms)
        composite = len(self.alarms.of_type("AWS::CloudWatch::CompositeAlarm"))
        metrics = {f["MetricTransformations"][0]["MetricName"] for f in self.filters().values()}
        secrets = len(self.stacks["IAM"].of_type("AWS::SecretsManager::Secret"))
        self.assertEqual((counts["alarms"], counts["metrics"], counts["secrets"]),
                         (watched + 5 * composite, len(metrics), secrets))
        database = self.databases["instance"]
        self.assertEqual(counts["database"], {"alarms": len(database.of_type("AWS::CloudWatch::Alarm")),
                                              "secrets": len(database.of_type("AWS::SecretsManager::Secret")),
                                              "keys": len(database.of_type("AWS::KMS::Key"))})

    @with_each_database
    def test_no_resource_needs_itself(self, stack):
        # cfn-lint does not look at UpdatePolicy, which names the deployment group of an alias.
        def mentioned(node):
            if isinstance(node, list):
                return set().union(*map(mentioned, node)) if node else set()
            if not isinstance(node, dict):
                return set()
            found = set().union(*map(mentioned, node.values())) if node else set()
            for name, argument in node.items():
                if name == "Ref":
                    found.add(argument)
                elif name == "Fn::GetAtt":
                    found.add((argument if isinstance(argument, list) else argument.split("."))[0])
                elif name == "Fn::Sub":
                    text = argument[0] if isinstance(argument, list) else argument
                    found |= {part.split(".")[0] for part in re.findall(r"\$\{([^!}]+)\}", text)}
                elif name == "DependsOn":
                    found |= set(each(argument))
            return found
        resources = stack.raw["Resources"]
        needs = {name: mentioned(resource) & set(resources) for name, resource in resources.items()}
        list(graphlib.TopologicalSorter(needs).static_order())  # raises CycleError

    @with_each_database
    def test_what_is_linted_is_what_a_set_deploys(self, stack):
        for made, part in [(lint.deployed(part), part) for part in (stack, stack.nested("Roles"))]:
            self.assertEqual(set(made["Resources"]), part.present)
            self.assertNotIn("Fn::If", json.dumps(made))
            self.assertNotIn("AWS::NoValue", json.dumps(made))

    @with_each_database
    def test_outputs_name_what_the_pipeline_and_others_need(self, stack):
        self.assertEqual(stack.outputs["MigrateFunction"], "<Migrate>")
        self.assertEqual(stack.outputs["AlarmTopicArn"], "<Alarms.Outputs.TopicArn>")


if __name__ == "__main__":
    unittest.main()
