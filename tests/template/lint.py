#!/usr/bin/env python3
"""Runs cfn-lint over every template: as it is written, and what it deploys with each set of parameters.

    python tests/template/lint.py                 in the regions of samconfig.toml
    python tests/template/lint.py --all-regions   in all that cfn-lint knows

The sets are the environments of samconfig.toml and the scenarios of expanded.py. Conditions are decided here, since cfn-lint
looks at everything that could be deployed. It needs the packages in deploy/requirements.txt, and no network.
"""

import json
import pathlib
import re
import sys
import tempfile

from cfnlint.api import lint_file
from cfnlint.config import ManualArgs
from cfnlint.helpers import REGIONS
from expanded import COMMON, DATABASE, DATABASES, ROOT, SCENARIOS, Expanded

sys.path.append(str(ROOT / "deploy"))
import template  # noqa: E402

ENVIRONMENTS = ("staging", "production")
WRITTEN = ["template.yaml", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "deploy").glob("*.yaml"))]
CLOUDFRONT = {"DomainName": "api.example.com", "CertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/a",
              "OriginName": "random.origin.example.com", "OriginSecret": "0123456789abcdef"}
ROLES = {"Environment": "staging", "Repository": "owner/repository"}
# What a region lacks, by cfn-lint's lists. docs/deployment.md, "Regions", says what to do without it.
ABSENT = {
    # No mail.
    "AWS::SES::EmailIdentity": {"ap-east-1", "ap-east-2", "ap-southeast-4", "ap-southeast-6", "ap-southeast-7", "cn-north-1",
                                "cn-northwest-1", "eu-south-2", "mx-central-1"},
    # No proxy.
    "AWS::RDS::DBProxy": {"ap-east-2"},
    "AWS::RDS::DBProxyTargetGroup": {"ap-east-2"},
    # The default class, and the one of the scenario "aurora": another one.
    "db.t4g.small": {"ca-west-1"},
    "db.r7g.large": {"ap-southeast-4"},
    # CloudFront is not in their partition.
    "AWS::CloudFront::CachePolicy": {"us-gov-east-1", "us-gov-west-1"},
    "AWS::CloudFront::Distribution": {"us-gov-east-1", "us-gov-west-1"},
    "AWS::CloudFront::OriginRequestPolicy": {"us-gov-east-1", "us-gov-west-1"},
}
# W2001: a set has no use for a parameter; W3002: `sam package` puts an address for the path of a part.
IGNORED = ("W2001", "W3002")


def sets():
    """What is deployed: a name, and the stack."""
    samconfig = (ROOT / "samconfig.toml").read_text()
    services = {name: template.settings(samconfig, name)["parameters"] for name in ENVIRONMENTS}
    services |= {name: COMMON | parameters for name, parameters in SCENARIOS.items()}
    for name, parameters in services.items():
        stack = Expanded(parameters)
        yield name, stack
        for part in stack.of_type("AWS::CloudFormation::Stack"):
            yield name, stack.nested(part)
    for name, parameters in {**DATABASES, "restored": DATABASE | {"SnapshotIdentifier": "before"}}.items():
        yield name, Expanded(parameters, "deploy/database.yaml")
    for create in ("true", "false"):
        yield f"CreateIdentityProvider={create}", Expanded(ROLES | {"CreateIdentityProvider": create}, "deploy/role.yaml")
    yield "CloudFront", Expanded(CLOUDFRONT, "deploy/cloudfront.yaml")


def decided(node, stack):
    """A part of a template without conditions and parameters; None where that is nothing."""
    if isinstance(node, list):
        return [value for value in (decided(value, stack) for value in node) if value is not None]
    if not isinstance(node, dict):
        return node
    if set(node) == {"Fn::If"}:
        condition, yes, no = node["Fn::If"]
        return decided(yes if stack.holds(condition) else no, stack)
    if set(node) == {"Ref"}:
        name = node["Ref"]
        if name == "AWS::NoValue":
            return None
        # The value of a part's parameter can be an attribute, `<Login.Version>`, which only AWS knows.
        known = isinstance(name, str) and not re.fullmatch("<.*>", stack.parameters.get(name, "<>"))
        return stack.ref(name) if known else node
    return {key: value for key, value in ((key, decided(value, stack)) for key, value in node.items()) if value is not None}


def deployed(stack):
    """The template of a stack as it is with its parameters."""
    made = {section: content for section, content in stack.raw.items() if section not in ("Conditions", "Rules")}
    for section in ("Resources", "Outputs"):
        made[section] = {name: {key: decided(value, stack) for key, value in entry.items() if key != "Condition"}
                         for name, entry in made[section].items()
                         if "Condition" not in entry or stack.holds(entry["Condition"])}
    return made


def findings(path, regions, ignored):
    """What cfn-lint says about a file: region, rule and message of each."""
    matches = [match for match in lint_file(path, ManualArgs(regions=regions)) if match.rule.id not in ignored]
    if len(regions) > 1 and any(match.rule.id != "E3006" for match in matches):
        # The other rules do not say where.
        return set().union(*(findings(path, [region], ignored) for region in regions))
    found = set()
    for match in matches:
        if match.rule.id == "E3006":
            what, region = re.fullmatch(r"Resource type '(.*)' does not exist in '(.*)'", match.message).groups()
        else:
            what, region = match.message.partition(" is not one of ")[0].strip("'"), regions[0]
        found.add((region, match.rule.id, what))
    return found


def lint(regions):
    """What is wrong, and what ABSENT explains: region and resource or class."""
    wrong, explained = [], set()
    with tempfile.TemporaryDirectory() as directory:
        templates = [(name, ROOT / name, ()) for name in WRITTEN]
        for name, stack in sets():
            # Parts of a stack are looked for beside it.
            path = pathlib.Path(directory, name, stack.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(deployed(stack), indent=1))
            templates.append((f"{stack.path} ({name})", path, IGNORED))
        for name, path, ignored in templates:
            print(name, flush=True)
            # With more at once, a text with several of ${AWS::…} would be looked at with the product of all regions.
            for start in range(0, len(regions), 4):
                for region, rule, what in sorted(findings(path, regions[start:start + 4], ignored)):
                    if rule in ("E3006", "E3025") and region in ABSENT.get(what, ()):
                        explained.add((region, what))
                    else:
                        wrong.append(f"{name}: {region}: {rule} {what}")
    print(f"{len(templates)} templates, {len(WRITTEN)} of them as written, in {len(regions)} regions")
    return wrong, explained


def main(arguments):
    if arguments not in ([], ["--all-regions"]):
        sys.exit(__doc__)
    samconfig = (ROOT / "samconfig.toml").read_text()
    used = {template.settings(samconfig, name)["region"] for name in ENVIRONMENTS}
    regions = sorted(REGIONS if arguments else used)
    wrong, explained = lint(regions)
    for what, lacking in ABSENT.items():
        wrong += [f"ABSENT has {what} for {region}, where it is" for region in sorted(lacking & set(regions))
                  if (region, what) not in explained]
    page = (ROOT / "docs/deployment.md").read_text().partition("### Regions")[2].partition("\n## ")[0]
    said = {f"{len(REGIONS)} regions", *(region for lacking in ABSENT.values() for region in lacking)}
    wrong += [f"docs/deployment.md does not say {what}" for what in sorted(said) if what not in page]
    print("\n".join([*wrong, f"{len(wrong)} findings, besides {len(explained)} that ABSENT explains"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
