// The typed client of docs/clients.md: types from openapi-typescript, requests with openapi-fetch. Half of the test is that
// it compiles (tsconfig.json), the other half that a session works.
//
//     node client.js http://127.0.0.1:3000

import assert from "node:assert/strict";
import createClient from "openapi-fetch";

const [, , baseUrl] = process.argv;
assert.ok(baseUrl, "the address of the service");

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

const logout = await client.POST("/auth/logout", { headers });
assert.equal(logout.data?.code, 1);

const dead = await client.GET("/auth/me", { headers });
assert.equal(dead.error?.code, 40103);

console.log("ok    a session with the typed client");
