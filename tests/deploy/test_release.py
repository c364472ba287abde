"""The course of a release (deploy/release.py), against a stack that is a dictionary."""

import contextlib
import io
import json
import os
import pathlib
import shlex
import tempfile
import types
import unittest
from unittest import mock

from example import ALL, ROOT, VALUES, deployed, live, new, properties
import aws
import release
import summary
import template as t
from template import Refused

BASE = {"Bucket": "bucket", "CloudFormationRole": "role", "PermissionsBoundary": "boundary"}


class Cloud:
    """CloudFormation, Lambda and CodeDeploy, as far as they matter: `failing` are functions that are taken back."""

    breaks, shifting = False, ()

    def __init__(self, template=None, failing=(), stack_fails="", migration=(True, '{"applied": [1]}'), latest=0):
        self.deployed = template
        self.failing, self.stack_fails, self.migration, self.latest = failing, stack_fails, migration, latest
        self.versions = dict.fromkeys(t.functions(template or {"Resources": {}}), 1)
        self.calls, self.base, self.broken = [], BASE, False
        self.sleep = lambda _: None

    def outputs(self, stack=None):
        return self.base if stack else {"Url": "https://api.example.com"}

    def describe(self):
        return self.deployed and {"StackStatus": "UPDATE_COMPLETE"}

    def prepare(self):
        if self.broken:
            raise Refused("the stack is in the state UPDATE_ROLLBACK_FAILED")
        return self.deployed is not None

    def template(self):
        return json.loads(json.dumps(self.deployed))

    def resources(self):
        left_out = {"Docs"} if getattr(self, "no_docs", False) else set()
        return {name: f"people-staging-{name.lower()}" for name in self.deployed["Resources"] if name not in left_out}

    def parameters(self):
        return dict(VALUES)

    def name_of(self, function):
        return next(name for name in t.functions(self.deployed) if f"people-staging-{name.lower()}" == function)

    def live(self, function):
        name = self.name_of(function)
        if not t.has_alias(t.functions(self.deployed)[name]):
            return None, None
        return str(self.versions[name]), live(self.deployed)[name]

    def change(self, template, values, exists, bucket, role, tags):
        assert (exists, bucket, role, tags["service"]) == (self.deployed is not None, "bucket", "role", "people")
        before = t.functions(self.deployed or {"Resources": {}})
        moved = [
            name
            for name, function in t.functions(template).items()
            if name in before and t.lambda_properties(function) != t.lambda_properties(before[name])
        ]
        self.calls.append(("change", moved, values and values.get("PermissionsBoundary", "declares none")))
        if values is not None and self.stack_fails:
            return aws.Outcome(False, reason=self.stack_fails)
        if values is None and set(moved) & set(self.failing):
            self.broken = self.breaks
            return aws.Outcome(False, reason="MeAliaslive: an alarm")
        changed = self.deployed is None or template != self.deployed
        self.deployed = json.loads(json.dumps(template))
        for name in t.functions(template):
            self.versions[name] = self.versions.get(name, 0) + (name in moved or name not in before)
        return aws.Outcome(True, changed)

    def start(self, function):
        self.calls.append(("start", function))
        return "8f1d", 0

    def lines(self, function, text, since):
        if text == "8f1d":
            done, result = self.migration
            kind = {"message": "done", "result": result} if done else {"message": "failed", "error": result}
            return [json.dumps(kind | {"span": {"request_id": "8f1d"}})]
        return [json.dumps({"deployment": text, "passed": 2, "failed": []})]

    def stop(self, resources, name):
        return name in self.shifting

    def deployment(self, resources, name, since):
        problem = "an alarm is active" if name in self.failing else ""
        return {"id": f"d-{name}", "status": "", "type": "CodeDeployDefault.LambdaAllAtOnce", "problem": problem}

    def code_of_version(self, function, version, bucket):
        self.calls.append(("code", function, version))
        return f"s3://bucket/people-staging/code-of-{version}"

    def latest_run(self, bucket):
        return self.latest

    def set_latest_run(self, bucket, run):
        self.latest = run

    def code(self, name):
        return properties(self.deployed, name)["CodeUri"].rpartition("/")[2]


def go(cloud, build=None, *arguments):
    """Exit status and summary of `release.py staging …` with this build."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch("aws.Aws", return_value=cloud))
        stack.enter_context(mock.patch("release.packaged", return_value=build))
        settings = {
            "region": "eu-central-1",
            "stack": "people-staging",
            "tags": {"service": "people"},
            "parameters": {},
        }
        stack.enter_context(mock.patch("template.settings", return_value=settings))
        stack.enter_context(mock.patch.dict(os.environ, clear=True))
        log = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        status = release.main(["staging", "--build", "v2", *arguments])
    return status, log.getvalue()


def row(text, name):
    return next(line for line in text.splitlines() if line.startswith(f"| {name} |"))


class Everything(unittest.TestCase):
    def test_the_stack_then_the_migrations_then_one_function_at_a_time(self):
        cloud = Cloud(deployed())
        status, text = go(cloud, new(Me="me2", Login="login2", Purge="purge2", Migrate="migrate2"))
        self.assertEqual(status, 0)
        self.assertEqual(
            cloud.calls,
            [
                ("change", ["Migrate"], "declares none"),
                ("start", "people-staging-migrate"),
                ("change", ["Purge"], None),
                ("change", ["Login"], None),
                ("change", ["Me"], None),
            ],
        )
        self.assertEqual(row(text, "Me"), "| Me | v1, version 1 | v2, version 2 | 2 passed | AllAtOnce | deployed |")
        self.assertEqual(row(text, "Docs"), "| Docs | v1, version 1 |  |  |  | unchanged |")
        self.assertEqual(row(text, "Migrate"), "| Migrate | v1 |  |  |  | changed with the stack |")
        self.assertIn('- migrate: {"applied": [1]}', text)

    def test_a_function_that_is_taken_back_does_not_take_the_others_back(self):
        cloud = Cloud(deployed(), failing=["Login"])
        status, text = go(cloud, new(Docs="docs2", Login="login2", Me="me2"))
        self.assertEqual(status, 1)
        self.assertEqual([cloud.code(name) for name in ("Docs", "Login", "Me")], ["docs2", "login1", "me2"])
        self.assertEqual(
            row(text, "Login"),
            "| Login | v1, version 1 | v1, version 1 | 2 passed | AllAtOnce: an alarm is active "
            "| **as before**: MeAliaslive: an alarm |",
        )
        self.assertIn("deployed", row(text, "Me"))

    def test_what_cannot_even_be_taken_back_ends_the_release(self):
        cloud = Cloud(deployed(), failing=["Login"])
        cloud.breaks = True
        status, text = go(cloud, new(Login="login2", Me="me2"))
        self.assertEqual((status, cloud.code("Me")), (1, "me1"))
        self.assertIn("UPDATE_ROLLBACK_FAILED", text)
        self.assertIn("not reached", row(text, "Me"))

    def test_the_next_release_tries_it_again(self):
        cloud = Cloud(deployed(), failing=["Login"])
        go(cloud, new(Login="login2"))
        cloud.failing = []
        status, text = go(cloud, new(Login="login2"))
        self.assertEqual((status, cloud.code("Login")), (0, "login2"))

    def test_a_failed_migration_changes_no_function(self):
        cloud = Cloud(deployed(), migration=(False, "a table is locked"))
        status, text = go(cloud, new(Me="me2"))
        self.assertEqual((status, cloud.code("Me")), (1, "me1"))
        self.assertIn("no function has been changed: a table is locked", text)
        self.assertIn("not reached", row(text, "Me"))

    def test_a_stack_that_cannot_be_updated_changes_no_function_and_does_not_migrate(self):
        cloud = Cloud(deployed(), stack_fails="Gateway: invalid")
        status, text = go(cloud, new(Me="me2"))
        self.assertEqual((status, cloud.code("Me")), (1, "me1"))
        self.assertNotIn(("start", "people-staging-migrate"), cloud.calls)
        self.assertIn("could not be updated, and no function but Migrate and Verify was tried: Gateway: invalid", text)

    def test_the_same_build_again_changes_nothing(self):
        cloud = Cloud(deployed())
        build = new(Me="me2")
        go(cloud, build)
        cloud.calls.clear()
        self.assertEqual(go(cloud, build)[0], 0)
        self.assertEqual([call[1] for call in cloud.calls if call[0] == "change"], [[]])

    def test_a_new_function_comes_with_the_stack(self):
        build = new()
        build["Resources"]["Extra"] = {
            "Type": t.FUNCTION,
            "Properties": {"CodeUri": "s3://bucket/people-staging/extra1"},
        }
        cloud = Cloud(deployed())
        status, text = go(cloud, build)
        self.assertEqual((status, cloud.code("Extra")), (0, "extra1"))
        self.assertIn("| created |", row(text, "Extra"))

    def test_a_function_that_a_parameter_leaves_out_is_passed_over(self):
        cloud = Cloud(deployed())
        cloud.no_docs = True
        status, text = go(cloud, new(Docs="docs2"))
        self.assertEqual(status, 0)
        self.assertIn("left out by a parameter", row(text, "Docs"))

    def test_the_boundary_of_permissions_is_passed_where_the_template_has_one(self):
        build = new()
        build["Parameters"]["PermissionsBoundary"] = {"Type": "String", "Default": ""}
        cloud = Cloud(deployed())
        go(cloud, build)
        self.assertEqual(cloud.calls[0][2], "boundary")

    def test_a_first_deployment_makes_all_then_migrates(self):
        cloud = Cloud()
        status, text = go(cloud, new())
        self.assertEqual(status, 0)
        self.assertEqual([call[0] for call in cloud.calls], ["change", "start"])
        self.assertEqual(t.changes(cloud.deployed, new(), ALL, VALUES, live(cloud.deployed)), [])
        self.assertIn("| created |", row(text, "Me"))

    def test_a_first_deployment_that_fails_says_what_to_do(self):
        status, text = go(Cloud(stack_fails="Database: no such subnet"), new())
        self.assertEqual(status, 1)
        self.assertIn("could not be created: Database: no such subnet. Mend that and deploy again", text)

    def test_a_plan_changes_nothing(self):
        cloud = Cloud(deployed())
        status, text = go(cloud, new(Me="me2"), "--plan")
        self.assertEqual((status, cloud.calls, cloud.latest), (0, [], 0))
        self.assertIn("will change", row(text, "Me"))
        self.assertIn("stays", row(text, "Login"))
        self.assertIn("everything will be created", go(Cloud(), new(), "--plan")[1])


class OneFunction(unittest.TestCase):
    def test_only_its_code_changes_with_the_previous_values_of_all_parameters_and_without_migrating(self):
        cloud = Cloud(deployed())
        status, text = go(cloud, new(Me="me2", Login="login2"), "--function", "Me")
        self.assertEqual((status, cloud.calls), (0, [("change", ["Me"], None)]))
        self.assertEqual((cloud.code("Me"), cloud.code("Login")), ("me2", "login1"))
        self.assertEqual(row(text, "Me"), "| Me | v1, version 1 | v2, version 2 | 2 passed | AllAtOnce | deployed |")

    def test_and_back(self):
        cloud = Cloud(deployed())
        go(cloud, new(Me="me2"), "--function", "Me")
        status, text = go(cloud, None, "--function", "Me", "--code", "before")
        self.assertEqual((status, cloud.code("Me")), (0, "me1"))
        self.assertEqual(row(text, "Me"), "| Me | v2, version 2 | v1, version 3 | 2 passed | AllAtOnce | deployed |")

    def test_to_a_version(self):
        cloud = Cloud(deployed())
        status, text = go(cloud, None, "--function", "Me", "--code", "12", "--hot-fix")
        self.assertEqual((status, cloud.code("Me")), (0, "code-of-12"))
        self.assertEqual(properties(cloud.deployed, "Me")["DeploymentPreference"]["Type"], "AllAtOnce")

    def test_that_is_taken_back_is_a_failure(self):
        cloud = Cloud(deployed(), failing=["Me"])
        status, text = go(cloud, new(Me="me2"), "--function", "Me")
        self.assertEqual((status, cloud.code("Me")), (1, "me1"))

    def test_what_cannot_be_is_refused(self):
        for arguments, reason in [
            (["--function", "Nobody"], "no function Nobody"),
            (["--function", "Nobody", "--code", "1"], "no function Nobody"),
            (["--function", "Me", "--code", "before"], "not recorded"),
        ]:
            with self.subTest(arguments):
                cloud = Cloud(deployed())
                status, text = go(cloud, new(), *arguments)
                self.assertEqual((status, cloud.calls), (1, []))
                self.assertIn(reason, text)
        self.assertIn("no stack people-staging yet", go(Cloud(), new(), "--function", "Me")[1])

    def test_arguments_that_make_no_sense_are_refused(self):
        for arguments in (["--code", "before"], ["--hot-fix"], ["--function", "Me", "--code", "v1"]):
            with self.subTest(arguments), self.assertRaises(SystemExit):
                go(Cloud(deployed()), new(), *arguments)


class Stop(unittest.TestCase):
    def test_what_shifts_goes_back_of_all_functions_or_one(self):
        cloud = Cloud(deployed())
        cloud.shifting = ("Me",)
        for arguments in ([], ["--function", "Me"]):
            status, text = go(cloud, None, "--stop", *arguments)
            self.assertEqual((status, cloud.calls, cloud.latest), (0, [], 0))
            self.assertIn("goes back", row(text, "Me"))
            self.assertNotIn("Login", text)

    def test_nothing_may_be_shifting(self):
        self.assertIn("no traffic is shifting", go(Cloud(deployed()), None, "--stop")[1])


class TheWorkflow(unittest.TestCase):
    def test_calls_the_script_with_arguments_that_it_knows(self):
        workflow = t.parsed((ROOT / ".github/workflows/release.yml").read_text())
        runs = [
            step["run"]
            for step in workflow["jobs"]["release"]["steps"]
            if step.get("run", "").startswith("deploy/release.py")
        ]
        self.assertEqual(len(runs), 3)
        for function, code, hot_fix in [
            ("all", "build", "--no-hot-fix"),
            ("Login", "before", "--hot-fix"),
            ("Login", "12", "--no-hot-fix"),
        ]:
            variables = {"$ENVIRONMENT": "staging", "$FUNCTION": function, "$CODE": code, "$HOT_FIX": hot_fix}
            options = [
                release.parsed([variables.get(word, word) for word in shlex.split(run.partition(">>")[0])[1:]])
                for run in runs
            ]
            self.assertEqual(
                [(option.region, option.plan) for option in options], [(True, False), (False, True), (False, False)]
            )
            self.assertEqual(
                (options[2].function, options[2].code, options[2].hot_fix), (function, code, hot_fix == "--hot-fix")
            )


class TheBuild(unittest.TestCase):
    def test_its_name_is_tag_or_branch_and_commit(self):
        self.assertEqual(
            release.build_name({"GITHUB_REF_NAME": "v1.4.0", "GITHUB_SHA": "1a2b3c4d5e"}), "v1.4.0 (1a2b3c4)"
        )
        self.assertEqual(release.build_name({}), "by hand")

    def test_a_binary_for_another_processor_is_refused(self):
        with tempfile.TemporaryDirectory() as directory:
            for machine, built, other in [(62, "x86_64", "arm64"), (183, "arm64", "x86_64")]:
                binary = pathlib.Path(directory) / "bootstrap"
                binary.write_bytes(b"\x7fELF".ljust(18, b"\0") + machine.to_bytes(2, "little") + b"rest")
                release.require_architecture(binary, built)
                with self.assertRaisesRegex(Refused, f"built for {built}, and the parameter Architecture is {other}"):
                    release.require_architecture(binary, other)

    def test_the_region_is_that_of_samconfig(self):
        with contextlib.redirect_stdout(io.StringIO()) as log:
            self.assertEqual(release.main(["production", "--region"]), 0)
        self.assertRegex(log.getvalue(), r"^region=[a-z]+-[a-z]+-\d\n$")


class Order(unittest.TestCase):
    def test_a_run_that_a_later_one_has_overtaken_is_refused(self):
        cloud = Cloud(deployed(), latest=13)
        status, text = go(cloud, new(Me="me2"), "--run", "12")
        self.assertEqual((status, cloud.calls, cloud.latest), (1, [], 13))
        self.assertIn("run 13 has overtaken this one, 12", text)

    def test_a_later_one_and_the_same_again_go_through(self):
        for run in ("13", "14"):
            cloud = Cloud(deployed(), latest=13)
            self.assertEqual(go(cloud, new(), "--run", run)[0], 0)
            self.assertEqual(cloud.latest, int(run))

    def test_one_function_overtakes_nobody_but_can_be_overtaken(self):
        cloud = Cloud(deployed(), latest=13)
        self.assertEqual(go(cloud, new(Me="me2"), "--function", "Me", "--run", "14")[0], 0)
        self.assertEqual(cloud.latest, 13)
        self.assertEqual(go(cloud, new(Me="me2"), "--function", "Me", "--run", "12")[0], 1)

    def test_by_hand_there_is_no_number(self):
        self.assertEqual(go(Cloud(deployed(), latest=13), new())[0], 0)

    def test_without_the_roles_nothing_begins(self):
        cloud = Cloud(deployed())
        cloud.base = None
        status, text = go(cloud, new())
        self.assertEqual(status, 1)
        self.assertIn("deploy/role.yaml comes first", text)


class Waiting(unittest.TestCase):
    def release(self, cloud):
        settings = {"region": "eu-central-1", "stack": "people-staging", "tags": {}, "parameters": {}}
        options = types.SimpleNamespace(run=0, build="v2", hot_fix=False)
        return release.Release(settings, cloud, summary.Summary("staging", "v2"), options)

    def test_a_migration_without_a_result_is_given_up_after_its_longest_run(self):
        cloud = Cloud(deployed())
        cloud.lines = lambda *_: []
        with (
            mock.patch("time.monotonic", side_effect=[0, 1019, 1021]),
            self.assertRaisesRegex(Refused, "no result .* 8f1d"),
        ):
            self.release(cloud).migrate("people-staging-migrate")


if __name__ == "__main__":
    unittest.main()
