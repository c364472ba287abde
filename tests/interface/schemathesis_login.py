"""Credentials for schemathesis: a new session for each request, since it also logs out."""

import os

import requests
import schemathesis

BASE = os.environ["PEOPLE_URL"]
ACCOUNT = {"userid": f"schemathesis-{os.getpid()}", "password": "correct horse battery staple"}
requests.post(f"{BASE}/user/register", json=ACCOUNT, timeout=10).raise_for_status()


@schemathesis.auth(refresh_interval=None)
class Session:
    def get(self, case, context):
        answer = requests.post(f"{BASE}/auth/login", json=ACCOUNT, timeout=10)
        return answer.json()["data"]["access_token"]

    def set(self, case, token, context):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}
