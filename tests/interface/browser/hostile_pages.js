// What the browser sends for pages of other origins.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { PASSWORD, base, browser, registerDirectly } from "./harness.js";

// Hostile pages on another host and on another port, both on this machine. The browser lets them send a form without a
// preflight; none may count as a failed log-in or learn anything.
const hostile = createServer((_, response) => {
  // A page controls whether it sends a referrer, but not Sec-Fetch-Site.
  response.setHeader("content-type", "text/html");
  response.end("<!doctype html><title>A quiz</title>");
});
/** @type {import("node:net").AddressInfo} */
const { port } = await new Promise((resolve) => hostile.listen(0, "0.0.0.0", () => resolve(/** @type {any} */ (hostile.address()))));

for (const [title, page_url] of /** @type {const} */ ([
  ["another host", `http://evil.localhost:${port}/`],
  ["another port of the same host", `http://127.0.0.1:${port}/`],
])) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const victim = `victim-${port}-${title.replaceAll(" ", "-")}`;
  await registerDirectly(page, victim);
  await page.goto(page_url);
  /** @type {{ url: string, status: number, headers: Record<string, string> }[]} */
  const answers = [];
  page.on("response", async (response) => {
    if (response.request().method() === "POST")
      answers.push({ url: response.url(), status: response.status(), headers: await response.request().allHeaders() });
  });
  // More attempts than the free failures of a userid, with the right password at the end.
  const sent = await page.evaluate(async ([base, username, right]) => {
    let sent = 0;
    for (const path of ["/auth/token", "/auth/login"]) {
      for (const password of [...Array(12).fill("wrong"), right]) {
        for (const referrerPolicy of /** @type {const} */ (["unsafe-url", "no-referrer"])) {
          const body = new URLSearchParams({ username, password });
          const answer = await fetch(base + path, { method: "POST", mode: "no-cors", body, referrerPolicy });
          if (answer.type !== "opaque") throw new Error(answer.type);
          sent += 1;
        }
      }
    }
    return sent;
  }, /** @type {const} */ ([base, victim, PASSWORD]));
  // Also a form that is submitted into a frame, without fetch.
  for (const path of ["/auth/token", "/auth/login"]) {
    const arrived = page.waitForResponse(base + path);
    await page.evaluate(([action, username]) => {
      // A frame for each: `frame-ancestors` blocks the response, after which the frame is unusable.
      const frame = Object.assign(document.createElement("iframe"), { name: action });
      const form = Object.assign(document.createElement("form"), { action, method: "post", target: action });
      document.body.append(frame);
      for (const [name, value] of [["username", username], ["password", "wrong"]])
        form.append(Object.assign(document.createElement("input"), { name, value }));
      document.body.append(form);
      form.submit();
    }, /** @type {const} */ ([base + path, victim]));
    await arrived;
  }
  assert.equal(sent, 52);
  await page.waitForTimeout(200);
  assert.equal(answers.length, 54);
  for (const { url, status, headers } of answers) assert.equal(status, 400, `${url} ${JSON.stringify(headers)}`);
  // None was counted: the owner can log in immediately.
  const login = await page.request.post(`${base}/auth/login`, { data: { userid: victim, password: PASSWORD } });
  assert.equal(login.status(), 200);
  await context.close();
  console.log(`ok    a page of ${title} sends forms: none is counted, none logs in`);
}
hostile.close();
