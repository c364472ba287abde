#!/usr/bin/env python3
"""Stock OAuth2 clients log in at /auth/token.

    python oauth2_clients.py http://127.0.0.1:3000
"""

import os
import sys

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # plain HTTP, only on this machine

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import InvalidGrantError, LegacyApplicationClient
from requests_oauthlib import OAuth2Session

base = sys.argv[1]
token_url, me = f"{base}/auth/token", f"{base}/auth/me"
userid, password = f"oauth2-{os.getpid()}", "correct horse battery staple & ünïcödé 100% + more"
account = {"userid": userid, "password": password}
requests.post(f"{base}/user/register", json=account, timeout=10).raise_for_status()


def check(what, passed):
    if not passed:
        sys.exit(f"FAIL  {what}")
    print(f"ok    {what}", flush=True)


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    sys.exit(f"FAIL  no {kind.__name__}")


def oauthlib(**keywords):
    client = OAuth2Session(client=LegacyApplicationClient(client_id="anything"))
    return client, lambda typed: client.fetch_token(token_url, username=userid, password=typed, **keywords)


# The client id in the body, and in the header Authorization, which RFC 6749 §2.3.1 prefers.
for how, keywords in [("client id in the body", {"include_client_id": True}),
                      ("client id in a header", {"auth": ("anything", "secret")})]:
    client, fetch = oauthlib(**keywords)
    token = fetch(password)
    check(f"oauthlib, {how}: a bearer token", token["token_type"] == "bearer" and token["expires_in"] > 0)
    check(f"oauthlib, {how}: who am I", client.get(me).json()["data"]["user_info"]["userid"] == userid)
    error = raises(InvalidGrantError, lambda: fetch("wrong"))
    check(f"oauthlib, {how}: invalid_grant", error.description == "The username or the password is wrong.")
    error = raises(Exception, lambda: fetch(""))
    check(f"oauthlib, {how}: an empty password is invalid_request", error.error == "invalid_request")

for method in ("client_secret_basic", "client_secret_post", "none"):
    client = AuthlibSession("anything", "secret", token_endpoint_auth_method=method)
    token = client.fetch_token(token_url, username=userid, password=password)
    check(f"Authlib, {method}: a bearer token", token["token_type"] == "bearer" and not token.is_expired())
    check(f"Authlib, {method}: who am I", client.get(me).json()["data"]["user_info"]["userid"] == userid)
    error = raises(OAuthError, lambda: client.fetch_token(token_url, username=userid, password="wrong"))
    check(f"Authlib, {method}: invalid_grant", error.error == "invalid_grant")
    error = raises(OAuthError, lambda: client.fetch_token(token_url, grant_type="client_credentials"))
    check(f"Authlib, {method}: another grant is unsupported_grant_type", error.error == "unsupported_grant_type")
