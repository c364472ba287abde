"""The list of functions, as functions/lib.rs has it: `name`, `needs`, `routes` ([method, path]) and `pages` (paths) of each."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def functions():
    # Without --package, so that it shares what a build of the workspace has compiled.
    command = ["cargo", "run", "--quiet", "--locked", "--example", "list"]
    # Of a build that checks SQL against the committed .sqlx, whatever DATABASE_URL says.
    environment = os.environ | {"SQLX_OFFLINE": "true"}
    return json.loads(subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE).stdout)
