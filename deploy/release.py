#!/usr/bin/env python3
"""Deploys what `sam build` has built to an environment of samconfig.toml, one function at a time.

    deploy/release.py staging                                  all functions that differ, and the rest of the template
    deploy/release.py staging --plan                           only says which functions differ
    deploy/release.py staging --function Login                 the code of one function, and nothing else of the stack
    deploy/release.py staging --function Login --code before   the code that it had before the present one
    deploy/release.py staging --function Login --code 12       the code of its published version 12
    … --function Login --hot-fix                               all traffic at once, whatever its alarms say
    deploy/release.py staging --stop [--function Login]        traffic that shifts goes back, within seconds

docs/deployment.md explains the steps. It needs credentials for AWS, the stack `people-staging-deploy`
(deploy/role.yaml), and the packages in deploy/requirements.txt. The exit status is 1 if anything was not deployed.
"""

import argparse
import datetime
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import aws
import migration
import summary
import template as t
from template import Refused

ROOT = pathlib.Path(__file__).resolve().parent.parent


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", help="a section of samconfig.toml")
    parser.add_argument("--function", default="all", help="the logical id of one function in template.yaml")
    parser.add_argument("--code", default="build", help="build, before, or the number of a published version")
    parser.add_argument("--hot-fix", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--region", action="store_true", help="only prints the region, for the workflow")
    parser.add_argument("--build", default=build_name(os.environ), help="how to call this build")
    parser.add_argument(
        "--run",
        type=int,
        default=int(os.environ.get("GITHUB_RUN_NUMBER", 0)),
        help="number of this run of the pipeline: one that a later run has overtaken is refused",
    )
    options = parser.parse_args(arguments)
    if options.function == "all" and (options.code != "build" or options.hot_fix):
        parser.error("--code and --hot-fix need --function")
    if options.code not in ("build", "before") and not options.code.isdecimal():
        parser.error("--code is build, before, or a number")
    return options


def main(arguments=None):
    options = parsed(arguments)
    settings = t.settings((ROOT / "samconfig.toml").read_text(), options.environment)
    if options.region:
        print(f"region={settings['region']}")
        return 0
    report = summary.Summary(options.environment, options.build)
    try:
        release = Release(settings, aws.Aws(settings["region"], settings["stack"]), report, options)
        if options.stop:
            release.stop(options.function)
        elif options.plan:
            release.plan(packaged(settings, release.bucket))
        elif options.function == "all":
            release.everything(packaged(settings, release.bucket))
        elif options.code != "build":
            release.back(options.function, None if options.code == "before" else options.code)
        else:
            release.one(options.function, packaged(settings, release.bucket))
        write("GITHUB_OUTPUT", f"url={(release.aws.outputs() or {}).get('Url', '')}\n")
    except Refused as error:
        report.notes.append(f"**Refused**: {error}")
        return 1
    finally:
        print(report.markdown(), flush=True)
        write("GITHUB_STEP_SUMMARY", report.markdown())
    return 1 if report.failed else 0


def build_name(environment):
    """`v1.4.0 (1a2b3c4)`"""
    name, commit = environment.get("GITHUB_REF_NAME"), environment.get("GITHUB_SHA", "")
    return f"{name} ({commit[:7]})" if name else "by hand"


def write(variable, text):
    if path := os.environ.get(variable):
        with open(path, "a") as file:
            file.write(text)


def packaged(settings, bucket):
    """The built template, with the code uploaded."""
    with tempfile.TemporaryDirectory() as directory:
        output = pathlib.Path(directory) / "packaged.json"
        subprocess.run(
            [
                "sam",
                "package",
                "--language-extensions",
                "--region",
                settings["region"],
                "--s3-bucket",
                bucket,
                "--s3-prefix",
                settings["stack"],
                "--use-json",
                "--output-template-file",
                str(output),
            ],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        template = t.expanded(t.parsed(output.read_text()))
    for binary in (ROOT / ".aws-sam/build").glob("*/bootstrap"):
        require_architecture(binary, t.values_of(template, settings["parameters"]).get("Architecture"))
    return t.with_notes(template, Migrations=sorted(path.name for path in (ROOT / "migrations").glob("*.sql")))


def require_architecture(binary, architecture):
    """Refuses a binary that was built for another processor than the functions have: each invocation would fail."""
    with binary.open("rb") as file:
        machine = int.from_bytes(file.read(20)[18:20], "little")
    # e_machine of ELF
    built = {62: "x86_64", 183: "arm64"}.get(machine, f"machine {machine}")
    if architecture and built != architecture:
        raise Refused(
            f"{binary.parent.name} was built for {built}, and the parameter Architecture is {architecture}: "
            f"sam build --parameter-overrides Architecture={architecture}"
        )


class Release:
    def __init__(self, settings, cloud, report, options):
        self.settings, self.aws, self.report, self.options = settings, cloud, report, options
        base = cloud.outputs(f"{settings['stack']}-deploy")
        if base is None:
            raise Refused(
                f"there is no stack {settings['stack']}-deploy: deploy/role.yaml comes first (docs/deployment.md)"
            )
        self.bucket, self.role, self.boundary = base["Bucket"], base["CloudFormationRole"], base["PermissionsBoundary"]
        self.exists = False

    # --- What can be asked for ----------------------------------------------------------------------------------------

    def everything(self, new):
        self.take_turn()
        values = self.values(new)
        self.exists = self.aws.prepare()
        if not self.exists:
            return self.first(new, values)
        deployed, before, live, changed = self.compare(new, values)
        step, leaving = t.stack_step(deployed, new, before, values, datetime.datetime.now(datetime.UTC))
        outcome = self.change(step, values)
        if not outcome.done:
            raise Refused(
                f"the stack could not be updated, and no function but Migrate and Verify was tried: {outcome.reason}"
            )
        resources = self.aws.resources()
        one_by_one = []
        for name in t.in_order(t.functions(new)):
            line = self.report.line(name)
            if name not in resources:
                line.result = "left out by a parameter"
            elif name not in before:
                line.result = "created"
            elif name in leaving:
                line.result = f"changed with the stack, which no longer has {', '.join(leaving[name])}"
            elif name in changed and name in t.WITH_THE_STACK:
                line.result = "changed with the stack"
            elif name in changed:
                line.result = "not reached"
                one_by_one.append(name)
        self.migrate(resources["Migrate"])
        for name in one_by_one:
            self.function(name, t.lambda_properties(t.functions(new)[name]), self.options.build, values, live[name][0])

    def compare(self, new, values):
        """What is deployed, the ids of its resources, version and REVISION of what runs, and what would change."""
        deployed, resources = t.expanded(self.aws.template()), self.aws.resources()
        live = {name: self.aws.live(resources[name]) for name in t.functions(deployed) if name in resources}
        changed = t.changes(deployed, new, resources, values, {name: revision for name, (_, revision) in live.items()})
        for name in t.in_order(t.functions(new)):
            line = self.report.line(name)
            line.before = described(live.get(name, (None,))[0], t.build_of(deployed, name))
        print(f"differ from what runs: {', '.join(changed) or 'no functions'}", flush=True)
        return deployed, resources, live, changed

    def first(self, new, values):
        """No traffic yet: all functions at once, then the migrations, which need the function of that name."""
        now = datetime.datetime.now(datetime.UTC)
        for name, function in t.functions(new).items():
            new["Resources"][name] = t.stamped(function, new, values, now)
            t.note(new, name, Build=self.options.build)
        outcome = self.change(new, values)
        if not outcome.done:
            raise Refused(
                f"the stack could not be created: {outcome.reason}. Mend that and deploy again: what is left of it "
                "is deleted first."
            )
        resources = self.aws.resources()
        for name in t.in_order(t.functions(new)):
            self.report.line(name).result = "created" if name in resources else "left out by a parameter"
        self.migrate(resources["Migrate"])

    def one(self, name, new):
        self.take_turn()
        self.require()
        deployed = t.expanded(self.aws.template())
        self.replace(deployed, name, t.code_of(new, name, deployed), self.options.build)

    def back(self, name, version):
        self.take_turn()
        self.require()
        deployed = t.expanded(self.aws.template())
        if version is None:
            code, build = t.previous_code(deployed, name)
        else:
            t.with_code(deployed, name, "")  # names a function that there is not
            code, build = (
                self.aws.code_of_version(self.aws.resources()[name], version, self.bucket),
                f"code of version {version}",
            )
        self.replace(deployed, name, code, build)

    def plan(self, new):
        """Only says which functions differ from what runs."""
        found = self.aws.describe()
        if not found or t.action(found["StackStatus"]) in ("create", "delete"):
            self.report.notes.append("everything will be created")
            return
        _, _, _, changed = self.compare(new, self.values(new))
        for name, line in self.report.lines.items():
            line.result = "will change" if name in changed else "stays"

    def stop(self, name):
        """Whoever makes the release that is stopped learns it from CloudFormation."""
        resources = self.aws.resources()
        names = t.functions(self.aws.template()) if name == "all" else [name]
        stopped = [name for name in names if self.aws.stop(resources, name)]
        for name in stopped:
            self.report.line(name).result = "goes back"
        if not stopped:
            self.report.notes.append("no traffic is shifting")

    # --- Steps --------------------------------------------------------------------------------------------------------

    def take_turn(self):
        """Refuses a run that a later one, of all functions, has overtaken: it would put older code over newer."""
        if not self.options.run:
            return
        latest = self.aws.latest_run(self.bucket)
        if self.options.run < latest:
            raise Refused(
                f"run {latest} has overtaken this one, {self.options.run}, and deployed what is newer. To deploy "
                "this nevertheless, run the workflow by hand."
            )
        if self.options.function == "all":
            self.aws.set_latest_run(self.bucket, self.options.run)

    def values(self, new):
        given = dict(self.settings["parameters"])
        if "PermissionsBoundary" in new.get("Parameters", {}):
            given["PermissionsBoundary"] = given.get("PermissionsBoundary") or self.boundary
        return t.values_of(new, given)

    def require(self):
        self.exists = self.aws.prepare()
        if not self.exists:
            raise Refused(f"there is no stack {self.settings['stack']} yet: deploy all functions")

    def change(self, template, values):
        return self.aws.change(template, values, self.exists, self.bucket, self.role, self.settings["tags"])

    def migrate(self, function):
        """Migrations only add, so the code that runs now works with the new schema. A run may take 15 minutes, longer
        than a connection from a runner lives: it is started, and its result looked for in its log."""
        invocation, since = self.aws.start(function)
        deadline = time.monotonic() + aws.MIGRATION_SECONDS
        while True:
            ended = migration.outcome(self.aws.lines(function, invocation, since), invocation)
            if ended:
                done, text = ended
                self.report.notes.append(f"migrate: {text}")
                if not done:
                    raise Refused(f"the migration failed, so no function has been changed: {text}")
                return
            if time.monotonic() > deadline:
                raise Refused(f"no result of the migration in the log of {function}, invocation {invocation}")
            self.aws.sleep(aws.POLL_SECONDS)

    def replace(self, deployed, name, code, build):
        resources = self.aws.resources()
        version, _ = self.aws.live(resources[name]) if name in resources else (None, None)
        self.function(name, t.with_code(deployed, name, code), build, None, version)

    def function(self, name, properties, build, values, version):
        """Moves one function to these properties. A failure is of this function alone: it is as before."""
        self.require()  # a stack that the function before has left where a person has to mend it
        deployed = t.expanded(self.aws.template())
        known = values or self.aws.parameters()
        since = datetime.datetime.now(datetime.UTC)
        step = t.function_step(deployed, name, properties, known, since, build, self.options.hot_fix)
        line = self.report.line(name)
        line.before = described(version, t.build_of(deployed, name))
        print(f"{name}: {line.before} -> {build}", flush=True)
        outcome = self.aws.change(step, None, True, self.bucket, self.role, self.settings["tags"])
        resources = self.aws.resources()
        if outcome.changed:
            self.traffic(line, name, resources, since)
        line.failed = not outcome.done
        if outcome.done:
            now, _ = self.aws.live(resources[name])
            line.after = described(now, build)
            line.result = "deployed" if outcome.changed else "unchanged"
        else:
            line.after = line.before
            line.result = f"**as before**: {outcome.reason}"
        print(f"{name}: {line.result}", flush=True)

    def traffic(self, line, name, resources, since):
        """What CodeDeploy and the check of the new version have to say."""
        deployment = self.aws.deployment(resources, name, since)
        if deployment:
            line.shift = ": ".join(filter(None, [summary.shift(deployment["type"]), deployment["problem"]]))
            if "Verify" in resources:
                began = int(since.timestamp() * 1000)
                line.checks = summary.checks(
                    self.aws.lines(resources["Verify"], deployment["id"], began), deployment["id"]
                )


def described(version, build):
    return ", ".join(filter(None, [build, f"version {version}" if version else ""]))


if __name__ == "__main__":
    sys.exit(main())
