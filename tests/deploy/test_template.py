"""Which functions change, and what each step of a release does to the template (deploy/template.py)."""

import copy
import unittest

from example import ALL, LATER, NOW, ROOT, VALUES, SOURCE, deployed, live, new, properties, revision, without
import template as t


class WhatChanges(unittest.TestCase):
    def changes(self, build, values=VALUES, present=ALL, running=None):
        return t.changes(deployed(), build, present, values, live(deployed()) if running is None else running)

    def test_the_same_build_changes_nothing(self):
        self.assertEqual(self.changes(new()), [])

    def test_only_functions_with_other_code_change_and_those_with_least_traffic_first(self):
        self.assertEqual(self.changes(new(Me="me2", Docs="docs2", Purge="purge2")), ["Purge", "Docs", "Me"])

    def test_the_same_code_in_another_bucket_is_no_change(self):
        build = new()
        properties(build, "Me")["CodeUri"] = "s3://elsewhere/people-production/me1"
        self.assertEqual(self.changes(build), [])

    def test_a_parameter_changes_the_functions_that_it_concerns_and_no_others(self):
        for parameter, value, concerned in [
            ("Minutes", "30", ["Login"]),
            ("Origins", "https://b.example.com", ["Me"]),
            ("Key", "green", ["Login"]),
            ("AlarmEmail", "a@example.com", []),
            ("DeploymentType", "AllAtOnce", []),
        ]:
            with self.subTest(parameter):
                self.assertEqual(self.changes(new(), VALUES | {parameter: value}), concerned)

    def test_restart_changes_all_that_have_versions(self):
        self.assertEqual(self.changes(new(), VALUES | {"Restart": "2"}), ["Docs", "Login", "Me"])

    def test_a_changed_setting_of_all_functions_changes_all(self):
        build = t.expanded(t.parsed(SOURCE.replace("Timeout: 15", "Timeout: 10")))
        self.assertEqual(self.changes(build), ["Migrate", "Purge", "Verify", "Docs", "Login", "Me"])

    def test_a_route_or_an_alarm_is_no_change_of_the_function(self):
        build = new()
        properties(build, "Login")["Events"] = {}
        properties(build, "Login")["DeploymentPreference"] = {"Type": "AllAtOnce"}
        self.assertEqual(self.changes(build), [])

    def test_what_runs_decides_and_not_what_the_template_says(self):
        running = live(deployed()) | {"Me": "0123456789-20260101T000000Z"}
        self.assertEqual(self.changes(new(), running=running), ["Me"])
        self.assertEqual(self.changes(new(), running=live(deployed()) | {"Me": None}), ["Me"])

    def test_a_new_function_changes_and_one_that_a_parameter_had_left_out(self):
        build = new()
        build["Resources"]["Extra"] = copy.deepcopy(build["Resources"]["Purge"])
        self.assertEqual(self.changes(build), ["Extra"])
        self.assertEqual(self.changes(new(), present=ALL - {"Docs"}), ["Docs"])


class Stamps(unittest.TestCase):
    def test_a_second_attempt_is_another_text_and_the_same_stamp(self):
        first, second = (t.stamped(t.functions(new())["Me"], new(), VALUES, time) for time in (NOW, LATER))
        first, second = (function["Properties"]["Environment"]["Variables"]["REVISION"] for function in (first, second))
        self.assertNotEqual(first, second)
        self.assertEqual(t.stamp_of(first), t.stamp_of(second))
        self.assertRegex(first, r"^[0-9a-f]{10}-20261126T070331Z$")

    def test_a_stamped_function_has_the_stamp_of_the_unstamped_one(self):
        for name, function in t.functions(new()).items():
            stamped = t.stamped(function, new(), VALUES, NOW)
            self.assertEqual(t.stamp(stamped, new(), VALUES), t.stamp(function, new(), VALUES), name)

    def test_a_function_without_variables_gets_one_and_one_without_versions_none(self):
        self.assertRegex(revision(deployed(), "Docs"), "^[0-9a-f]{10}-")
        self.assertEqual(revision(deployed(), "Purge"), "unstamped")

    def test_variables_that_cannot_be_added_to_are_refused(self):
        build = new()
        properties(build, "Me")["Environment"] = {"Fn::If": ["Blue", {"Variables": {}}, {"Variables": {}}]}
        with self.assertRaisesRegex(t.Refused, "is not a mapping"):
            t.stamped(t.functions(build)["Me"], build, VALUES, NOW)


class TheStackFirst(unittest.TestCase):
    def step(self, build, before=None, present=ALL):
        return t.stack_step(before or deployed(), build, present, VALUES, LATER)

    def test_functions_keep_code_settings_and_stamp(self):
        build = new(Me="me2", Login="login2", Purge="purge2")
        properties(build, "Me")["MemorySize"] = 512
        step, leaving = self.step(build)
        self.assertEqual(leaving, {})
        for name in ("Me", "Login", "Purge", "Docs"):
            self.assertEqual(
                t.lambda_properties(t.functions(step)[name]), t.lambda_properties(t.functions(deployed())[name])
            )

    def test_routes_and_how_traffic_shifts_are_the_new_ones(self):
        build = new(Login="login2")
        properties(build, "Login")["Events"]["Token"] = {"Type": "HttpApi"}
        properties(build, "Login")["DeploymentPreference"] = {"Type": "AllAtOnce"}
        step, _ = self.step(build)
        self.assertIn("Token", properties(step, "Login")["Events"])
        self.assertEqual(properties(step, "Login")["DeploymentPreference"], {"Type": "AllAtOnce"})

    def test_the_rest_of_the_template_is_the_new_one(self):
        build = new(Me="me2")
        build["Resources"]["Topic"] = {"Type": "AWS::SNS::Topic"}
        del build["Resources"]["LoginRole"], properties(build, "Login")["Role"]
        before = deployed()
        del properties(before, "Login")["Role"]
        step, _ = self.step(build, before)
        names = list(t.functions(step))
        self.assertEqual(without(step, *names), without(build, *names))

    def test_migrate_verify_and_new_functions_are_the_new_ones(self):
        build = new(Migrate="migrate2", Verify="verify2", Docs="docs2")
        step, _ = self.step(build, present=ALL - {"Docs"})
        for name, code in {"Migrate": "migrate2", "Verify": "verify2", "Docs": "docs2"}.items():
            self.assertTrue(properties(step, name)["CodeUri"].endswith(code), name)
        self.assertTrue(revision(step, "Docs").endswith("20261126T071031Z"))

    def test_a_function_that_is_gone_is_removed(self):
        build = new()
        del build["Resources"]["Purge"]
        step, _ = self.step(build)
        self.assertNotIn("Purge", step["Resources"])
        self.assertNotIn("Purge", t.about(step)["Functions"])

    def test_a_function_that_mentions_what_is_gone_changes_with_the_stack(self):
        build = new(Login="login2", Me="me2")
        del build["Resources"]["LoginRole"], build["Parameters"]["Minutes"]
        del properties(build, "Login")["Role"], properties(build, "Login")["Environment"]["Variables"]["MINUTES"]
        step, leaving = self.step(build)
        self.assertEqual(leaving, {"Login": ["LoginRole", "Minutes"]})
        self.assertTrue(properties(step, "Login")["CodeUri"].endswith("login2"))
        self.assertTrue(properties(step, "Me")["CodeUri"].endswith("me1"))

    def test_what_a_loop_makes_is_not_gone(self):
        function = {
            "Properties": {"Alarm": {"Ref": "LoginErrorsAlarm"}, "Other": {"Fn::GetAtt": ["LoginTopic", "Arn"]}}
        }
        self.assertEqual(t.missing(function, new()), {"LoginTopic"})


class OneFunction(unittest.TestCase):
    def step(self, name, code, before=None, **options):
        before = before or deployed()
        return t.function_step(before, name, t.with_code(before, name, code), VALUES, LATER, "v2", **options)

    def test_only_its_code_stamp_and_description_change(self):
        step = self.step("Me", "s3://bucket/people-staging/me2")
        self.assertEqual(without(step, "Me"), without(deployed(), "Me"))
        before, after = properties(deployed(), "Me"), properties(step, "Me")
        self.assertEqual(
            {name for name in after if after[name] != before.get(name)},
            {"CodeUri", "Environment", "VersionDescription"},
        )
        self.assertEqual(after["VersionDescription"], "v2")
        self.assertNotEqual(t.stamp_of(revision(step, "Me")), t.stamp_of(revision(deployed(), "Me")))

    def test_afterwards_nothing_has_changed_of_a_build_with_that_code(self):
        step = self.step("Me", "s3://bucket/people-staging/me2")
        self.assertEqual(t.changes(step, new(Me="me2"), ALL, VALUES, live(step)), [])

    def test_one_after_the_other_they_make_the_new_template(self):
        build = new(Me="me2", Login="login2", Purge="purge2")
        properties(build, "Login")["MemorySize"] = 512
        del properties(build, "Me")["Timeout"]
        template, _ = t.stack_step(deployed(), build, ALL, VALUES, LATER)
        for name in t.changes(deployed(), build, ALL, VALUES, live(deployed())):
            template = t.function_step(
                template, name, t.lambda_properties(t.functions(build)[name]), VALUES, LATER, "v2"
            )
        self.assertEqual(t.changes(template, build, ALL, VALUES, live(template)), [])
        for name in t.functions(build):
            expected, found = (copy.deepcopy(properties(which, name)) for which in (build, template))
            for side in (expected, found):
                side.pop("VersionDescription", None)
                side.pop("Environment", None)
            self.assertEqual(found, expected, name)

    def test_back_is_the_code_before_and_back_again_the_one_after(self):
        step = self.step("Me", "s3://bucket/people-staging/me2")
        code, build = t.previous_code(step, "Me")
        self.assertEqual((code, build), ("s3://bucket/people-staging/me1", "v1"))
        back = t.function_step(step, "Me", t.with_code(step, "Me", code), VALUES, LATER, build)
        self.assertEqual(t.stamp_of(revision(back, "Me")), t.stamp_of(revision(deployed(), "Me")))
        self.assertEqual(t.previous_code(back, "Me"), ("s3://bucket/people-staging/me2", "v2"))

    def test_a_function_without_versions_goes_back_too(self):
        step = self.step("Purge", "s3://bucket/people-staging/purge2")
        self.assertEqual(t.previous_code(step, "Purge"), ("s3://bucket/people-staging/purge1", "v1"))

    def test_a_change_of_settings_only_does_not_forget_the_code_before(self):
        step = self.step("Me", "s3://bucket/people-staging/me2")
        again = t.function_step(
            step, "Me", t.lambda_properties(t.functions(step)["Me"]) | {"MemorySize": 512}, VALUES, LATER, "v3"
        )
        self.assertEqual(t.previous_code(again, "Me"), ("s3://bucket/people-staging/me1", "v1"))

    def test_what_was_never_replaced_cannot_go_back(self):
        with self.assertRaisesRegex(t.Refused, "name a version with --code"):
            t.previous_code(deployed(), "Me")

    def test_a_hot_fix_shifts_at_once_without_alarms_but_is_checked_before(self):
        step = self.step("Me", "s3://bucket/people-staging/me2", hot_fix=True)
        self.assertEqual(
            properties(step, "Me")["DeploymentPreference"],
            {"Type": "AllAtOnce", "Hooks": {"PreTraffic": {"Ref": "Verify"}}},
        )
        self.assertEqual(without(step, "Me"), without(deployed(), "Me"))

    def test_after_a_hot_fix_traffic_shifts_as_before(self):
        expected = properties(deployed(), "Me")["DeploymentPreference"]
        fixed = self.step("Me", "s3://bucket/people-staging/me2", hot_fix=True)
        again = self.step("Me", "s3://bucket/people-staging/me3", fixed, hot_fix=True)
        with self.subTest("the next deployment of this function alone"):
            self.assertEqual(
                properties(self.step("Me", "s3://bucket/people-staging/me4", again), "Me")["DeploymentPreference"],
                expected,
            )
        with self.subTest("the next deployment of all"):
            step, _ = t.stack_step(again, new(), ALL, VALUES, LATER)
            self.assertEqual(properties(step, "Me")["DeploymentPreference"], expected)
            self.assertNotIn("Preference", t.about(step)["Functions"]["Me"])

    def test_a_function_without_traffic_needs_no_hot_fix(self):
        with self.assertRaisesRegex(t.Refused, "no traffic to shift"):
            self.step("Purge", "s3://bucket/people-staging/purge2", hot_fix=True)

    def test_a_build_with_a_migration_that_is_not_deployed_is_not_taken_apart(self):
        build = t.with_notes(new(Me="me2"), Migrations=["0001_users.sql", "0002_roles.sql"])
        with self.assertRaisesRegex(t.Refused, r"\(0002_roles.sql\): deploy all functions"):
            t.code_of(build, "Me", deployed())
        self.assertEqual(t.code_of(new(Me="me2"), "Me", deployed()), "s3://bucket/people-staging/me2")

    def test_an_unknown_function_is_refused_by_name(self):
        for call in (lambda: t.code_of(new(), "Nobody", deployed()), lambda: t.with_code(deployed(), "Nobody", "")):
            with self.assertRaisesRegex(t.Refused, "no function Nobody; it has Docs, Login, Me"):
                call()


class Parameters(unittest.TestCase):
    def test_a_removed_line_is_the_default_again(self):
        self.assertEqual(t.values_of(new(), {"Minutes": "30"})["Minutes"], "30")
        self.assertEqual(t.values_of(new(), {})["Minutes"], "60")

    def test_a_parameter_that_does_not_exist_or_is_lacking_is_refused(self):
        with self.assertRaisesRegex(t.Refused, "has parameters that the template has not: Minuets"):
            t.values_of(new(), {"Minuets": "30"})
        build = new()
        del build["Parameters"]["Key"]["Default"]
        with self.assertRaisesRegex(t.Refused, "lacks parameters: Key"):
            t.values_of(build, {})

    def test_samconfig_of_this_repository(self):
        for environment in ("staging", "production"):
            settings = t.settings((ROOT / "samconfig.toml").read_text(), environment)
            self.assertEqual(settings["stack"], f"people-{environment}")
            self.assertEqual(settings["tags"]["environment"], environment)
            self.assertTrue(settings["region"])
            template = t.parsed((ROOT / "template.yaml").read_text())
            self.assertEqual(set(t.values_of(template, settings["parameters"])), set(template["Parameters"]))

    def test_a_value_may_be_quoted_and_contain_an_equals_sign(self):
        text = """[x.deploy.parameters]
region = "r"
stack_name = "s"
parameter_overrides = ['A=""', 'B="b=c"', "C=https://a?b=c"]
"""
        self.assertEqual(t.settings(text, "x")["parameters"], {"A": "", "B": "b=c", "C": "https://a?b=c"})

    def test_an_environment_that_does_not_exist_is_refused(self):
        with self.assertRaisesRegex(t.Refused, "no section"):
            t.settings("version = 0.1", "moon")

    def test_references_of_every_kind_are_seen(self):
        node = {
            "a": [
                {"Ref": "A"},
                {"Fn::GetAtt": ["B", "Arn"]},
                {"Fn::GetAtt": "C.Arn"},
                {"Fn::If": ["D", {"Ref": "E"}, 1]},
            ],
            "b": {"Fn::Sub": ["${F} ${G.Arn} ${own} ${!no} ${AWS::Region}", {"own": {"Ref": "H"}}]},
            "c": {"Condition": "I"},
            "d": {"Fn::Sub": "${J}"},
            "e": {"Ref": "AWS::NoValue"},
        }
        self.assertEqual(t.references(node), set("ABCDEFGHIJ"))


class States(unittest.TestCase):
    def test_each_state_of_a_stack_has_a_first_action(self):
        for status, expected in {
            None: "create",
            "REVIEW_IN_PROGRESS": "create",
            "DELETE_COMPLETE": "create",
            "ROLLBACK_COMPLETE": "delete",
            "ROLLBACK_FAILED": "delete",
            "CREATE_FAILED": "delete",
            "CREATE_IN_PROGRESS": "wait",
            "UPDATE_IN_PROGRESS": "wait",
            "ROLLBACK_IN_PROGRESS": "wait",
            "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": "wait",
            "UPDATE_ROLLBACK_IN_PROGRESS": "wait",
            "DELETE_IN_PROGRESS": "wait",
            "CREATE_COMPLETE": "update",
            "UPDATE_COMPLETE": "update",
            "UPDATE_ROLLBACK_COMPLETE": "update",
            "IMPORT_COMPLETE": "update",
            "IMPORT_ROLLBACK_COMPLETE": "update",
        }.items():
            self.assertEqual(t.action(status), expected, status)

    def test_a_state_that_a_person_has_to_mend_is_refused(self):
        for status in ("UPDATE_ROLLBACK_FAILED", "DELETE_FAILED", "UPDATE_FAILED", "IMPORT_ROLLBACK_FAILED"):
            with self.assertRaisesRegex(t.Refused, status):
                t.action(status)


class ThisRepository(unittest.TestCase):
    """The template that is deployed is of the shape that the steps above expect."""

    def test_every_function_with_versions_can_be_stamped(self):
        template = t.expanded(t.parsed((ROOT / "template.yaml").read_text()))
        values = t.values_of(template, {"DatabaseOwnerSecretArn": "arn:aws:secretsmanager:owner"})
        for function in t.functions(template).values():
            function["Properties"]["CodeUri"] = "s3://bucket/key"
        for name, function in t.functions(template).items():
            self.assertEqual(t.missing(function, template), set(), name)
            if t.has_alias(function):
                self.assertIn(
                    "REVISION", t.stamped(function, template, values, NOW)["Properties"]["Environment"]["Variables"]
                )

    def test_every_function_can_be_chosen_in_the_workflow(self):
        template = t.parsed((ROOT / "template.yaml").read_text())
        workflow = t.parsed((ROOT / ".github/workflows/deploy.yml").read_text())
        # YAML 1.1 reads the key `on` as true.
        inputs = (workflow.get("on") or workflow[True])["workflow_dispatch"]["inputs"]
        self.assertEqual(set(inputs["function"]["options"]), {"all", *t.functions(template)} - {"Verify"})


if __name__ == "__main__":
    unittest.main()
