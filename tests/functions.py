"""The list of functions in functions/lib.rs: `name`, `needs`, `routes` ([method, path]) and `pages` (paths) of each."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def functions():
    # Without --package, so that it reuses a build of the workspace.
    command = ["cargo", "run", "--quiet", "--locked", "--example", "list"]
    # Check SQL against the committed .sqlx, whatever DATABASE_URL is.
    environment = os.environ | {"SQLX_OFFLINE": "true"}
    return json.loads(subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE).stdout)
