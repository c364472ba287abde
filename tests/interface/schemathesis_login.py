"""Credentials for schemathesis: a new user for each request, since requests also log out, guess and change the password,
and delete the account."""

import os
import uuid

import requests
import schemathesis

BASE = os.environ["PEOPLE_URL"]


@schemathesis.auth(refresh_interval=None)
class Session:
    def get(self, case, context):
        account = {"userid": uuid.uuid4().hex, "password": "correct horse battery staple"}
        requests.post(f"{BASE}/user/register", json=account, timeout=10).raise_for_status()
        answer = requests.post(f"{BASE}/auth/login", json=account, timeout=10)
        answer.raise_for_status()
        return answer.json()["data"]["access_token"]

    def set(self, case, token, context):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}
