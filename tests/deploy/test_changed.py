"""Which functions a push can change (deploy/changed.py), and which build production gets (deploy/find_build.py)."""

import re
import unittest

from example import ROOT
import changed
import find_build

ALL = {"Login", "Me", "Migrate", "Purge"}


class Changed(unittest.TestCase):
    def functions(self, *paths):
        return set(changed.changed(paths, ALL)[0])

    def test_its_own_directory_changes_a_function(self):
        self.assertEqual(self.functions("functions/login/mod.rs", "functions/nobody/mod.rs"), {"Login"})

    def test_what_all_are_compiled_from_changes_all(self):
        for path in (
            "shared/src/token/mod.rs",
            "Cargo.lock",
            "Cargo.toml",
            "shared/Cargo.toml",
            "functions/lib.rs",
            "functions/build.rs",
            "migrations/0009_x.sql",
            ".sqlx/query-1.json",
            ".cargo/config.toml",
            "rust-toolchain.toml",
            "functions/Cargo.toml",
        ):
            self.assertEqual(self.functions(path), ALL, path)

    def test_what_is_deployed_nowhere_changes_none(self):
        for path in (
            "README.md",
            "docs/operations.md",
            "tests/contract/me.rs",
            "local/src/main.rs",
            "migrations/README.md",
            "functions/list.rs",
            ".github/workflows/check.yml",
            "deploy/release.py",
        ):
            self.assertEqual(self.functions(path), set(), path)

    def test_the_hook_and_the_jobs(self):
        self.assertEqual(self.functions("deploy/verify/checks.json"), {"Verify"})
        self.assertEqual(self.functions("functions/job.rs"), {"Migrate", "Purge"})

    def test_the_list_names_the_first_reason_and_the_stack(self):
        found = changed.changed(["functions/me/mod.rs", "functions/me/a.rs", "template.yaml"], ALL)
        self.assertEqual(
            changed.markdown(*found),
            """\
## Functions that this changes

- Me (functions/me/a.rs)
- template.yaml: the stack, and each function whose settings it changes
""",
        )
        self.assertIn("None.", changed.markdown({}, []))

    def test_no_function_is_compiled_into_another(self):
        """Otherwise a directory would change more than its own function."""
        names = {name.lower() for name in changed.functions()}
        self.assertGreater(len(names), 10)
        for name in names:
            for path in (ROOT / "functions" / name).rglob("*.rs"):
                others = set(re.findall(r"crate::([a-z_]+)", path.read_text())) & names - {name}
                self.assertEqual(others, set(), path)

    def test_only_migrate_and_purge_are_jobs(self):
        users = {
            path.parent.name.capitalize() for path in (ROOT / "functions").glob("*/*.rs") if "job::" in path.read_text()
        }
        self.assertEqual(users, changed.ONLY["functions/job.rs"])

    def test_it_reads_this_repository(self):
        self.assertIsInstance(changed.paths_since("HEAD"), list)


def run(number, event="push", branch="main", title="", conclusion="success"):
    return {
        "id": number * 10,
        "run_number": number,
        "event": event,
        "head_branch": branch,
        "display_title": title,
        "conclusion": conclusion,
    }


class FindBuild(unittest.TestCase):
    environment = {"GITHUB_REF_TYPE": "tag", "GITHUB_SHA": "1a2b", "GITHUB_REPOSITORY": "o/r"}

    def find(self, runs, function="all", expired=False, code="build", **environment):
        def fetch(path):
            if path == "/repos/o/r/actions/workflows/deploy.yml/runs?head_sha=1a2b&status=success&per_page=100":
                return {"workflow_runs": runs}
            return {"artifacts": [{"expired": expired}]}

        return find_build.find(self.environment | environment, function, code, fetch)

    def test_the_newest_run_of_main(self):
        self.assertEqual(self.find([run(3), run(5), run(4)]), 50)

    def test_a_run_by_hand_that_deployed_all_to_staging(self):
        self.assertEqual(self.find([run(5, "workflow_dispatch", "fix", "staging: all")], "Login"), 50)

    def test_of_a_run_that_deployed_one_function_only_that(self):
        by_hand = run(5, "workflow_dispatch", "fix", "staging: Login")
        self.assertEqual(self.find([by_hand], "Login"), 50)
        for function, what in [("all", "all functions"), ("Me", "Me")]:
            with self.assertRaisesRegex(find_build.NotDeployed, f"1a2b has not been deployed to staging with {what}"):
                self.find([by_hand], function)

    def test_nothing_else_counts(self):
        for other in (
            run(5, conclusion="failure"),
            run(5, branch="v1.4.0"),
            run(5, "workflow_dispatch", "main", "production: all"),
            run(5, "schedule"),
        ):
            with self.assertRaises(find_build.NotDeployed):
                self.find([other])

    def test_production_is_deployed_from_a_tag_also_by_hand(self):
        with self.assertRaisesRegex(find_build.NotDeployed, "from a tag"):
            self.find([run(5)], GITHUB_REF_TYPE="branch")

    def test_the_way_back_needs_no_build_but_a_tag(self):
        self.assertEqual(self.find([], "Login", code="before"), "")
        with self.assertRaisesRegex(find_build.NotDeployed, "from a tag"):
            self.find([], "Login", code="before", GITHUB_REF_TYPE="branch")

    def test_a_build_that_is_no_longer_kept(self):
        with self.assertRaisesRegex(find_build.NotDeployed, "no longer kept"):
            self.find([run(5)], expired=True)


if __name__ == "__main__":
    unittest.main()
