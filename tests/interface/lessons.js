// The TypeScript of docs/authorizer.md, compiled (tsconfig.snippets.json), with an event of each gateway.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { caller, handler } from "./generated/snippets/lessons.js";

const expected = {
  user_id: "9b2f3c1e-5d44-4f0a-8c37-2d6a1e7b9f10",
  session_id: "1f0c7a52-8e63-4b7d-9a15-c4d2e8f6a3b9",
  roles: ["editor", "teacher"],
};
for (const name of ["behind-authorizer", "behind-authorizer-rest"]) {
  const event = JSON.parse(readFileSync(new URL(`../events/${name}.json`, import.meta.url), "utf8"));
  assert.deepEqual(caller(event), expected);
  const response = await handler(event);
  assert.equal(response.statusCode, 200);
  assert.deepEqual(JSON.parse(response.body), expected);

  const { authorizer } = event.requestContext;
  (authorizer.lambda ?? authorizer).roles = "";
  assert.deepEqual(caller(event).roles, []);

  // A route that nobody protected lets nobody be somebody.
  delete event.requestContext.authorizer;
  assert.throws(() => caller(event), TypeError);
}

console.log("ok    the TypeScript behind the authorizer");
