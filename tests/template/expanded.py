"""What template.yaml and the templates in deploy/ expand to, and the sets of parameters with which they are checked."""

import functools
import logging
import os
import pathlib
import re
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from samtranslator.translator.transform import transform
    from samtranslator.yaml_helper import yaml_parse

logging.disable(logging.WARNING)  # samtranslator's own

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
REGION, ACCOUNT, STACK = "eu-central-1", "123456789012", "people-test"
os.environ["AWS_DEFAULT_REGION"] = REGION  # samtranslator needs one
PSEUDO = {"AWS::Region": REGION, "AWS::AccountId": ACCOUNT, "AWS::StackName": STACK, "AWS::Partition": "aws"}
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
COMMON = {"CorsOrigins": "https://app.example.com,http://localhost:5173"}
OWNER = {"DatabaseOwnerSecretArn": SECRET + "owner"}
NETWORK = {"SubnetIds": "subnet-0123456789abcdef0,subnet-0123456789abcdef1", "SecurityGroupIds": "sg-0123456789abcdef0"}
IAM = {**OWNER, **NETWORK, "DatabaseHost": "db.example.com", "DatabaseResourceId": "db-ABC"}
MAIL = {"MailFrom": "People <no-reply@example.com>", "AppResetUrl": "https://app.example.com/reset",
        "AppEmailUrl": "https://app.example.com/email"}
SCENARIOS = {
    "a secret": {**OWNER, "DatabaseSecretArn": SECRET + "application", **MAIL, "CreateMailIdentity": "false"},
    "IAM": {**IAM, **MAIL},
    "a proxy": {**IAM, "DatabaseHost": "proxy.example.com", "DatabaseResourceId": "prx-DEF", "DatabasePooler": "transaction",
                "PreviousDatabaseResourceId": "db-ABC", "SecretsKmsKeyArn": KEY, "SigningKey": "green",
                "RegisterConcurrency": "none", "ServeDocs": "false", "DomainName": "api.example.com",
                "CertificateArn": f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1", "TrustedProxySecretArn": SECRET + "header",
                "PermissionsBoundary": "arn:aws:iam::123456789012:policy/boundary"},
}
DATABASE = {"VpcId": "vpc-0123456789abcdef0", "SubnetIds": NETWORK["SubnetIds"]}
DATABASES = {
    "instance": DATABASE,
    "instance with everything": {**DATABASE, "Proxy": "true", "SecretsEndpoint": "true", "VpcCidr": "10.0.0.0/16",
                                 "Standby": "true", "BackupRegion": "eu-west-1", "BackupRegionKmsKeyArn": KEY},
    "aurora": {**DATABASE, "Kind": "aurora", "Class": "db.r7g.large", "Standby": "true"},
    "serverless": {**DATABASE, "Kind": "serverless", "Proxy": "true"},
}


class NoPolicies:
    """SAM looks up AWS managed policies by name; the template uses none."""

    def load(self):
        return {}


NO_VALUE = object()


def expand(node, **values):
    """Expands Fn::ForEach as https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-foreach.html
    describes it."""
    if isinstance(node, str):
        return re.sub(r"\$\{(\w+)}", lambda match: values.get(match.group(1), match.group(0)), node)
    if isinstance(node, list):
        return [expand(value, **values) for value in node]
    if not isinstance(node, dict):
        return node
    if set(node) == {"Ref"} and isinstance(node["Ref"], str) and node["Ref"] in values:
        return values[node["Ref"]]
    expanded = {}
    for key, value in node.items():
        if key.startswith("Fn::ForEach::"):
            identifier, collection, body = value
            for element in collection:
                expanded |= expand(body, **values, **{identifier: element})
        else:
            expanded[expand(key, **values)] = expand(value, **values)
    return expanded


class Expanded:
    """The template as CloudFormation would deploy it with these parameters. Resource attributes stay symbolic."""

    def __init__(self, parameters, path="template.yaml"):
        self.path = path
        template = yaml_parse((ROOT / path).read_text())
        declared = template["Parameters"]
        self.parameters = {name: str(about["Default"]) for name, about in declared.items() if "Default" in about}
        self.parameters |= parameters
        assert set(self.parameters) == set(declared), "a parameter without a value"
        if path == "template.yaml":
            for resource in template["Resources"].values():
                if "CodeUri" in resource["Properties"]:
                    resource["Properties"]["CodeUri"] = "s3://bucket/key"
            template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
            template = transform(template, dict(self.parameters), NoPolicies())
        else:
            template = expand(template)
        self.raw = template
        self.conditions = self.raw.get("Conditions", {})
        self.present = {name for name, resource in self.raw["Resources"].items()
                        if "Condition" not in resource or self.holds(resource["Condition"])}
        self.resources = {name: self.resolve(self.raw["Resources"][name]) for name in self.present}
        self.outputs = {name: self.resolve(output["Value"]) for name, output in self.raw["Outputs"].items()
                        if "Condition" not in output or self.holds(output["Condition"])}

    def holds(self, condition):
        return self.resolve(self.conditions[condition])

    @functools.cache
    def nested(self, name):
        """A template that is a part of this one."""
        properties = self.resources[name]["Properties"]
        return Expanded({key: str(value) for key, value in properties["Parameters"].items()}, properties["TemplateURL"])

    def of_type(self, kind):
        return {name: resource["Properties"] for name, resource in self.resources.items() if resource["Type"] == kind}

    def ref(self, name):
        if name in PSEUDO:
            return PSEUDO[name]
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self.parameters:
            value = self.parameters[name]
            return value.split(",") if re.match("List<|CommaDelimitedList", self.raw["Parameters"][name]["Type"]) else value
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
                    return self.ref(self.resolve(argument))
                case "Condition" if isinstance(argument, str):
                    return self.holds(argument)
                case "Fn::If":
                    return self.resolve(argument[1] if self.holds(argument[0]) else argument[2])
                case "Fn::GetAtt":
                    return self.attribute(".".join(self.resolve(argument)) if isinstance(argument, list) else argument)
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
                case "Fn::FindInMap":
                    name, first, second = map(self.resolve, argument)
                    return self.raw["Mappings"][name][first][second]
                case "Fn::Select":
                    values = self.resolve(argument[1])
                    return values[int(argument[0])] if int(argument[0]) < len(values) else f"<part of {values}>"
                case _ if name.startswith("Fn::"):
                    raise AssertionError(f"{name}: not understood")
        resolved = {key: self.resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not NO_VALUE}
