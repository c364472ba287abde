// The typed client of docs/clients.md: types from openapi-typescript, requests with openapi-fetch. Half of the test is that
// it compiles (tsconfig.json), the other half that an account works, from its registration to its deletion.
//
//     node client.js http://127.0.0.1:3000 OUTPUT-OF-LOCAL

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import { mailTo } from "./mails.js";

const [, , baseUrl, output] = process.argv;
assert.ok(baseUrl && output, "the address of the service and a file with the output of `local`");

/** @type {ReturnType<typeof createClient<import("./people").paths>>} */
const client = createClient({ baseUrl });
const userid = `typed-${process.pid}`;
const password = "correct horse battery staple";

const registered = await client.POST("/user/register", { body: { userid, password, init_cn_level: "HSK 2" } });
assert.equal(registered.data?.data.user_info.init_cn_level, "HSK 2");

const again = await client.POST("/user/register", { body: { userid, password } });
assert.equal(again.error?.code, 40901);

const refused = await client.POST("/user/register", { body: { userid: "", password: "short" } });
assert.ok(refused.error?.code === 42201);
// Here the compiler knows that `data` has `errors`.
assert.deepEqual(refused.error.data.errors.map(({ field }) => field), ["userid", "password"]);

// As anybody would write it: one type for the response, one for the error.
const { data, error } = await client.POST("/auth/login", { body: { userid, password } });
if (error) throw new Error(`${error.code}: ${error.message}`);
const headers = { authorization: `${data.data.token_type} ${data.data.access_token}` };
assert.equal(data.data.user_info.userid, userid);

const wrong = await client.POST("/auth/login", { body: { userid, password: "wrong" } });
assert.equal(wrong.error?.code, 40101);

const form = await client.POST("/auth/token", {
  body: { username: userid, password },
  headers: { "content-type": "application/x-www-form-urlencoded" },
});
assert.equal(form.data?.token_type, "bearer");

const me = await client.GET("/auth/me", { headers });
assert.equal(me.data?.data.user_info.userid, userid);

// The second half of an account's life. A patch may have null, but no member that cannot be changed.
const patched = await client.PATCH("/auth/me", { headers, body: { job: "teacher", init_cn_level: null } });
assert.equal(patched.data?.data.user_info.job, "teacher");
assert.equal(patched.data.data.user_info.init_cn_level, null);
// @ts-expect-error: a number is no name
const mistyped = await client.PATCH("/auth/me", { headers, body: { user_name: 1 } });
assert.ok(mistyped.error?.code === 42201);
assert.deepEqual(mistyped.error.data.errors.map(({ field }) => field), ["user_name"]);

const { data: listed } = await client.GET("/auth/sessions", { headers });
assert.ok(listed);
assert.deepEqual(listed.data.sessions.map(({ current }) => current), [false, true]);
/** @type {(string | null)[]} */
const nullable = listed.data.sessions.flatMap(({ user_agent, address }) => [user_agent, address]);
assert.equal(nullable.length, 4);

const [other] = listed.data.sessions;
const path = { session_id: other?.session_id ?? "" };
const ended = await client.DELETE("/auth/sessions/{session_id}", { headers, params: { path } });
assert.equal(ended.data?.code, 1);
const endedAgain = await client.DELETE("/auth/sessions/{session_id}", { headers, params: { path } });
assert.equal(endedAgain.error?.code, 40402);

await client.POST("/auth/login", { body: { userid, password } });
const others = await client.DELETE("/auth/sessions", { headers });
assert.deepEqual(others.data?.data, { ended: 1, more: false });

const new_password = "six candles under the bridge";
const notMine = await client.POST("/auth/password", { headers, body: { current_password: "wrong", new_password } });
assert.equal(notMine.error?.code, 40301);
const tooShort = await client.POST("/auth/password", { headers, body: { current_password: password, new_password: "short" } });
assert.ok(tooShort.error?.code === 42201);
assert.deepEqual(tooShort.error.data.errors.map(({ field }) => field), ["new_password"]);
const changed = await client.POST("/auth/password", { headers, body: { current_password: password, new_password } });
assert.equal(changed.data?.code, 1);

const logout = await client.POST("/auth/logout", { headers });
assert.equal(logout.data?.code, 1);

const dead = await client.GET("/auth/me", { headers });
assert.equal(dead.error?.code, 40103);

const last = await client.POST("/auth/login", { body: { userid, password: new_password } });
assert.ok(last.data);
assert.equal(last.data.data.user_info.email_verified, false);
const bearer = { authorization: `Bearer ${last.data.data.access_token}` };

// Mails: an address, and a forgotten password.
const email = `${userid}@example.com`;
const notVerified = await client.POST("/auth/email", { headers: bearer, body: { email, current_password: password } });
assert.equal(notVerified.error?.code, 40301);
const noAddress = await client.POST("/auth/email", { headers: bearer, body: { email: "no", current_password: new_password } });
assert.ok(noAddress.error?.code === 42201);
assert.deepEqual(noAddress.error.data.errors.map(({ field }) => field), ["email"]);
const asked = await client.POST("/auth/email", { headers: bearer, body: { email, current_password: new_password } });
assert.equal(asked.data?.code, 1);
const { token } = await mailTo(output, email, 1, "Confirm your e-mail address");
const confirmed = await client.POST("/auth/email/confirm", { body: { token } });
assert.equal(confirmed.data?.code, 1);
const verified = await client.GET("/auth/me", { headers: bearer });
assert.deepEqual([verified.data?.data.user_info.email, verified.data?.data.user_info.email_verified], [email, true]);

const nobody = await client.POST("/auth/forgot", { body: { account: "" } });
assert.ok(nobody.error?.code === 42201);
const forgot = await client.POST("/auth/forgot", { body: { account: email } });
assert.equal(forgot.data?.code, 1);
const reset = await mailTo(output, email, 2, "Set a new password");
const invalid = await client.POST("/auth/reset", { body: { token, new_password: password } });
assert.equal(invalid.error?.code, 41001);
const refusedReset = await client.POST("/auth/reset", { body: { token: reset.token, new_password: "short" } });
assert.ok(refusedReset.error?.code === 42201);
assert.deepEqual(refusedReset.error.data.errors.map(({ field }) => field), ["new_password"]);
const newest = "nine bridges over the river";
const done = await client.POST("/auth/reset", { body: { token: reset.token, new_password: newest } });
assert.equal(done.data?.code, 1);
const loggedOut = await client.GET("/auth/me", { headers: bearer });
assert.equal(loggedOut.error?.code, 40103);

const relogin = await client.POST("/auth/login", { body: { userid, password: newest } });
bearer.authorization = `Bearer ${relogin.data?.data.access_token}`;
const kept = await client.POST("/user/delete", { headers: bearer, body: { password } });
assert.equal(kept.error?.code, 40301);
const deleted = await client.POST("/user/delete", { headers: bearer, body: { password: newest } });
assert.equal(deleted.data?.code, 1);
const gone = await client.GET("/auth/me", { headers: bearer });
assert.equal(gone.error?.code, 40103);

console.log("ok    an account with the typed client");
