"""What a release does to templates, parameters and functions. No AWS, no files."""

import copy
import datetime
import hashlib
import json
import re
import tomllib

from samtranslator.plugins.globals.globals import Globals
from samtranslator.yaml_helper import yaml_parse

FUNCTION = "AWS::Serverless::Function"
# What a release adds to the template, for the next one: AWS ignores it.
METADATA = "People"
# Properties that SAM turns into something else than the Lambda function. They do not make a new version, so with the
# stack they take effect at once: a new route exists before the code behind it, and alarms before the traffic shifts.
BESIDE_THE_FUNCTION = {
    "AssumeRolePolicyDocument",
    "AutoPublishAlias",
    "AutoPublishAliasAllProperties",
    "AutoPublishCodeSha256",
    "DeploymentPreference",
    "EventInvokeConfig",
    "Events",
    "FunctionUrlConfig",
    "PermissionsBoundary",
    "Policies",
    "PropagateTags",
    "ProvisionedConcurrencyConfig",
    "RolePath",
    "VersionDeletionPolicy",
    "VersionDescription",
}
# Least traffic first, so that a bad build meets few people. Others, new ones among them, come before these.
BUSIEST = ["Docs", "Health", "Register", "Credentials", "Account", "Logout", "Login", "Me", "Authorizer"]
# They come before the others: what migrates, and what checks the new versions.
WITH_THE_STACK = {"Migrate", "Verify"}


class Refused(Exception):
    """A release that cannot be made, for a reason that its message gives to a person."""


# --- Reading ----------------------------------------------------------------------------------------------------------


def parsed(body):
    """The template that CloudFormation returns, or that is in a file: YAML, JSON or already parsed."""
    return yaml_parse(body) if isinstance(body, str) else json.loads(json.dumps(body))


def expanded(template):
    """The template with `Globals.Function` written into each function, so that each can be changed alone."""
    template = copy.deepcopy(template)
    merge = Globals(template)
    for name, resource in functions(template).items():
        resource["Properties"] = merge.merge(FUNCTION, resource.get("Properties", {}), name)
    if "Globals" in template:
        template["Globals"].pop("Function", None)
        if not template["Globals"]:
            del template["Globals"]
    return template


def functions(template):
    """The functions, by logical id. `Fn::ForEach` has no `Type`."""
    return {
        name: resource
        for name, resource in template["Resources"].items()
        if isinstance(resource, dict) and resource.get("Type") == FUNCTION
    }


def has_alias(function):
    """Whether versions of it are published, between which traffic shifts."""
    return "AutoPublishAlias" in function["Properties"]


def in_order(names):
    return sorted(names, key=lambda name: (BUSIEST.index(name) if name in BUSIEST else -1, name))


def about(template):
    return copy.deepcopy(template.get("Metadata", {}).get(METADATA, {}))


def with_notes(template, **notes):
    """The template with `notes` for the next release."""
    template.setdefault("Metadata", {}).setdefault(METADATA, {}).update(notes)
    return template


def build_of(template, name):
    return about(template).get("Functions", {}).get(name, {}).get("Build")


def note(template, name, **notes):
    """Sets (or with None removes) what the next release has to know about a function."""
    kept = about(template).get("Functions", {})
    entry = kept.setdefault(name, {}) | notes
    kept[name] = {key: value for key, value in entry.items() if value is not None}
    return with_notes(template, Functions=kept)


# --- What depends on what ---------------------------------------------------------------------------------------------


def references(node):
    """The names of parameters, resources and conditions that are mentioned in it."""
    if isinstance(node, list):
        return set().union(*map(references, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    found = set()
    for key, value in node.items():
        if key in ("Ref", "Condition") and isinstance(value, str):
            found.add(value)
        elif key == "Fn::GetAtt":
            found.add((value if isinstance(value, str) else value[0]).split(".")[0])
        elif key == "Fn::Sub":
            text, values = value if isinstance(value, list) else (value, {})
            names = {name.split(".")[0] for name in re.findall(r"\$\{([^!}]+)\}", text)}
            found |= names - set(values) | references(values)
        elif key == "Fn::If":
            found |= {value[0]} | references(value[1:])
        else:
            found |= references(value)
    return {name for name in found if not name.startswith("AWS::")}


def parameters_of(function, template):
    """The parameters on which the function's own properties depend, also by conditions; and `Restart`, whose only
    purpose is to be changed, for new instances that read the secrets again."""
    found, left = set(), references(lambda_properties(function))
    while left:
        name = left.pop()
        if name in template.get("Conditions", {}) and name not in found:
            left |= references(template["Conditions"][name])
        found.add(name)
    return (found | {"Restart"}) & set(template.get("Parameters", {}))


def missing(function, template):
    """What the function's own properties mention and the template does not have."""
    known = {name for section in ("Parameters", "Conditions", "Resources") for name in template.get(section, {})}
    loops = [
        re.sub(r"\\\$\\\{.*?\\\}", ".+", re.escape(pattern))
        for name, loop in template["Resources"].items()
        if name.startswith("Fn::ForEach::")
        for pattern in loop[2]
    ]
    return {
        name
        for name in references(lambda_properties(function)) - known
        if not any(re.fullmatch(loop, name) for loop in loops)
    }


# --- Stamps -----------------------------------------------------------------------------------------------------------


def lambda_properties(function):
    return {name: value for name, value in function["Properties"].items() if name not in BESIDE_THE_FUNCTION}


def stamp(function, template, values):
    """Names what a version consists of: code, settings, and the values of the parameters among these.

    SAM publishes a version when the text of a function changes, and not when only the value of a parameter does. With
    the stamp in its text, a changed value is a new version, of the functions and in the environment that it concerns.
    """
    properties = copy.deepcopy(lambda_properties(function))
    # The same bytes have the same key in every bucket: SAM takes it from the content.
    properties["CodeUri"] = properties["CodeUri"].rpartition("/")[2]
    variables = properties.get("Environment")
    if isinstance(variables, dict):
        variables.get("Variables", {}).pop("REVISION", None)
        # Docs has no variables of its own.
        if variables in ({"Variables": {}}, {"Ref": "AWS::NoValue"}):
            del properties["Environment"]
    parameters = {name: values.get(name) for name in parameters_of(function, template)}
    text = json.dumps([properties, parameters], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def stamped(function, template, values, now):
    """The function with its stamp in the variable `REVISION`; nothing without an alias, since there are no versions.

    The time makes a second attempt another text: after a roll-back the version that failed still exists, and Lambda
    does not publish the same code and settings twice in a row, which CloudFormation reports as an error.
    https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html
    """
    if not has_alias(function):
        return function
    function = copy.deepcopy(function)
    environment = function["Properties"].get("Environment", {})
    if environment == {"Ref": "AWS::NoValue"}:
        environment = {}
    if set(environment) - {"Variables"}:
        raise Refused(f"the Environment of {function['Properties'].get('FunctionName')} is not a mapping of variables")
    revision = f"{stamp(function, template, values)}-{now.astimezone(datetime.UTC):%Y%m%dT%H%M%SZ}"
    function["Properties"]["Environment"] = {"Variables": environment.get("Variables", {}) | {"REVISION": revision}}
    return function


def stamp_of(revision):
    return (revision or "").partition("-")[0]


# --- The steps of a release -------------------------------------------------------------------------------------------


def stack_step(deployed, new, present, values, now):
    """The new template in which each function of the stack (`present`) keeps what runs now, except for Migrate, Verify
    and those that cannot: what they mention is gone. Returns it and, for these, what that is."""
    template, leaving = copy.deepcopy(new), {}
    for name, function in functions(template).items():
        old = functions(deployed).get(name) if name in present else None
        gone = old and missing(old, new)
        if old is None or gone or name in WITH_THE_STACK:
            template["Resources"][name] = stamped(function, new, values, now)
            if gone:
                leaving[name] = sorted(gone)
            continue
        beside = {key: value for key, value in function["Properties"].items() if key in BESIDE_THE_FUNCTION}
        beside.pop("VersionDescription", None)
        if "VersionDescription" in old["Properties"]:
            beside["VersionDescription"] = old["Properties"]["VersionDescription"]
        function["Properties"] = lambda_properties(copy.deepcopy(old)) | beside
    kept = {name: entry for name, entry in about(deployed).get("Functions", {}).items() if name in functions(new)}
    for entry in kept.values():
        entry.pop("Preference", None)  # the new template's is in force again
    return with_notes(template, Functions=kept), leaving


def changes(deployed, new, present, values, live):
    """The functions that differ from what runs: `live` has the REVISION of each alias. Least traffic first."""
    changed = []
    for name in in_order(functions(new)):
        function = functions(new)[name]
        old = functions(deployed).get(name) if name in present else None
        if old is None:
            changed.append(name)
        elif has_alias(function):
            if stamp_of(live.get(name)) != stamp(function, new, values):
                changed.append(name)
        elif lambda_properties(function) != lambda_properties(old):
            changed.append(name)
    return changed


def function_step(deployed, name, properties, values, now, build, hot_fix=False):
    """The deployed template with these properties as those of one function, and nothing else changed."""
    template = copy.deepcopy(deployed)
    function = functions(template).get(name)
    if function is None:
        raise Refused(f"the stack has no function {name}; it has {', '.join(sorted(functions(template)))}")
    if hot_fix and not has_alias(function):
        raise Refused(f"{name} has no traffic to shift, so it needs no --hot-fix")
    entry = about(template).get("Functions", {}).get(name, {})
    before = {"Code": function["Properties"]["CodeUri"], "Build": entry.get("Build", "?")}
    beside = {key: value for key, value in function["Properties"].items() if key in BESIDE_THE_FUNCTION}
    function["Properties"] = beside | copy.deepcopy(properties)
    if has_alias(function):
        function["Properties"]["VersionDescription"] = build
    preference = entry.get("Preference") or function["Properties"].get("DeploymentPreference")
    if has_alias(function) and preference:
        now_in_force = preference
        if hot_fix:
            # Without alarms: the one that the old version has raised would stop the fix at once.
            now_in_force = {key: value for key, value in preference.items() if key != "Alarms"} | {"Type": "AllAtOnce"}
        function["Properties"]["DeploymentPreference"] = now_in_force
    template["Resources"][name] = stamped(function, template, values, now)
    if before["Code"] == function["Properties"]["CodeUri"]:
        before = entry.get("Previous")  # only settings have changed
    return note(template, name, Build=build, Previous=before, Preference=preference if hot_fix else None)


def with_code(deployed, name, code):
    """The properties of a deployed function with other code."""
    function = functions(deployed).get(name)
    if function is None:
        raise Refused(f"the stack has no function {name}; it has {', '.join(sorted(functions(deployed)))}")
    return lambda_properties(function) | {"CodeUri": code}


def code_of(new, name, deployed):
    """The code of one function. A setting or a migration that it may need comes only with all functions."""
    if name not in functions(new):
        raise Refused(f"this build has no function {name}; it has {', '.join(sorted(functions(new)))}")
    pending = set(about(new).get("Migrations", [])) - set(about(deployed).get("Migrations", []))
    if pending:
        raise Refused(
            f"this build has migrations that are not deployed ({', '.join(sorted(pending))}): deploy all functions"
        )
    return functions(new)[name]["Properties"]["CodeUri"]


def previous_code(deployed, name):
    """What `--code before` goes to, and which build that is."""
    previous = about(deployed).get("Functions", {}).get(name, {}).get("Previous")
    if not previous:
        raise Refused(f"it is not recorded what {name} was before: name a version with --code")
    return previous["Code"], previous["Build"]


# --- Parameters and states --------------------------------------------------------------------------------------------


def settings(samconfig, environment):
    """Region, stack name, tags and parameters of an environment, from samconfig.toml."""
    config = tomllib.loads(samconfig)
    try:
        about_it = config[environment]["deploy"]["parameters"]
    except KeyError:
        raise Refused(f"samconfig.toml has no section [{environment}.deploy.parameters]") from None
    overrides = about_it.get("parameter_overrides", [])
    if isinstance(overrides, str):
        raise Refused("parameter_overrides in samconfig.toml has to be a list, with one parameter each")
    tags = about_it.get("tags", "")
    pairs = tags.split() if isinstance(tags, str) else tags
    return {
        "region": about_it["region"],
        "stack": about_it["stack_name"],
        "tags": dict(pair.split("=", 1) for pair in pairs),
        # An empty value is written as NAME="".
        "parameters": {
            name: value[1:-1] if value[:1] == value[-1:] == '"' and len(value) > 1 else value
            for name, value in (override.split("=", 1) for override in overrides)
        },
    }


def values_of(template, given):
    """The value of every parameter: as given, else its default. So a line that is removed from samconfig.toml, and a
    default that changes, take effect; CloudFormation alone would keep the previous value."""
    declared = template.get("Parameters", {})
    unknown = set(given) - set(declared)
    if unknown:
        raise Refused(f"samconfig.toml has parameters that the template has not: {', '.join(sorted(unknown))}")
    without = [name for name, parameter in declared.items() if name not in given and "Default" not in parameter]
    if without:
        raise Refused(f"samconfig.toml lacks parameters: {', '.join(sorted(without))}")
    return {name: given.get(name, str(parameter.get("Default"))) for name, parameter in declared.items()}


def pair(text):
    """NAME=VALUE, as an argument."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError("not NAME=VALUE")
    return name, value


def action(status):
    """What to do first with a stack in this state (None: there is none): `create`, `delete` what a first deployment
    left behind and create it, `wait`, or `update`."""
    if status is None or status == "REVIEW_IN_PROGRESS":  # a change set was made and never executed
        return "create"
    # Only a creation ends so. Nothing has worked in it yet, and it cannot be updated.
    if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"):
        return "delete"
    if status.endswith("_IN_PROGRESS"):
        return "wait"
    if status.endswith("_COMPLETE") and status != "DELETE_COMPLETE":
        return "update"
    if status == "DELETE_COMPLETE":
        return "create"
    raise Refused(
        f"the stack is in the state {status}, which somebody has to mend: for UPDATE_ROLLBACK_FAILED, remove the "
        "reason that its events tell, then `aws cloudformation continue-update-rollback`"
    )
