// The pages in a real browser, used as a person would.
//
//     node browser.js http://127.0.0.1:3000 DIRECTORY-FOR-SCREENSHOTS

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [, , base = "", screenshots = ""] = process.argv;
assert.ok(base && screenshots, "the address of the service and a directory for screenshots");
mkdirSync(screenshots, { recursive: true });

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PASSWORD = "correct horse battery staple";
const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

/**
 * Opens a page, runs `test`, and asserts that nothing else went wrong: no violation of the content security policy, no
 * error on the console except for the expected number of 4xx responses and failed requests, no request to another host.
 * @param {string} title
 * @param {import("playwright-core").BrowserContextOptions} options
 * @param {(page: import("playwright-core").Page) => Promise<{ refusals: number, failures?: number }>} test
 */
async function check(title, options, test) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  /** @type {string[]} */
  const problems = [];
  let refusals = 0;
  let failures = 0;
  page.on("pageerror", (error) => problems.push(`thrown: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    if (/the server responded with a status of 4\d\d/.test(message.text())) refusals += 1;
    else if (message.text().includes("net::ERR_FAILED")) failures += 1;
    else problems.push(`${message.type()}: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(`${base}/`) && !request.url().startsWith("data:")) problems.push(`sent to ${request.url()}`);
  });
  await page.addInitScript(() => document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`refused by the policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`)));
  const expected = await test(page);
  assert.deepEqual({ problems, refusals, failures }, { problems: [], failures: 0, ...expected }, title);
  await context.close();
  console.log(`ok    ${title}`);
}

/**
 * @param {import("playwright-core").Page} page
 * @param {string} name
 */
async function screenshot(page, name) {
  await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
}

/**
 * Asserts that axe finds nothing serious or critical, and that nothing scrolls horizontally.
 * @param {import("playwright-core").Page} page
 * @param {string[]} [excluded] rules
 */
async function assertAccessible(page, excluded = []) {
  await page.evaluate(AXE);
  const violations = await page.evaluate(async (excluded) => {
    const rules = Object.fromEntries(excluded.map((rule) => [rule, { enabled: false }]));
    // @ts-expect-error: the line above defines it
    const { violations } = await axe.run({ rules });
    return violations.map((/** @type {any} */ { impact, id, nodes }) =>
      `${impact} ${id} ${nodes.map((/** @type {any} */ node) => node.html.slice(0, 120)).join("\n    ")}`);
  }, excluded);
  assert.deepEqual(violations.filter((/** @type {string} */ found) => /^(serious|critical)/.test(found)), []);
  await assertFits(page);
}

/**
 * Asserts that neither the page nor anything in it except code scrolls horizontally. A browser on a phone would make the
 * page wider than the screen instead.
 * @param {import("playwright-core").Page} page
 */
async function assertFits(page) {
  const wide = await page.evaluate((width) => [...document.querySelectorAll("*")].filter((element) => {
    const { overflowX } = getComputedStyle(element);
    const scrolls = element.scrollWidth > element.clientWidth && (overflowX === "auto" || overflowX === "scroll");
    return (scrolls || element.getBoundingClientRect().right > width + 1) && !element.closest("pre") && !element.closest("svg");
  }).map((element) => element.outerHTML.slice(0, 160)), page.viewportSize()?.width ?? 0);
  assert.deepEqual(wide, []);
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= (page.viewportSize()?.width ?? 0), `${width} wide`);
}

/**
 * Asserts that an element is entirely on the screen, without scrolling.
 * @param {import("playwright-core").Locator} locator
 */
async function assertVisible(locator) {
  await locator.waitFor();
  const { width, height } = locator.page().viewportSize() ?? { width: 0, height: 0 };
  const box = await locator.boundingBox();
  const inside = box && box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height;
  assert.ok(inside, `${locator}: ${JSON.stringify(box)}`);
}

/**
 * @param {import("playwright-core").Page} page
 * @param {string} userid
 */
async function registerDirectly(page, userid) {
  const answer = await page.request.post(`${base}/user/register`, { data: { userid, password: PASSWORD } });
  assert.equal(answer.status(), 200);
}

/**
 * Opens Swagger UI with all operations of the description.
 * @param {import("playwright-core").Page} page
 */
async function openDocs(page) {
  const { paths } = await (await page.request.get(`${base}/openapi.json`)).json();
  const operations = Object.values(paths).flatMap((/** @type {object} */ path) => Object.keys(path));
  await page.goto(`${base}/docs`);
  await page.locator(".opblock").nth(operations.length - 1).waitFor();
  assert.equal(await page.locator(".opblock").count(), operations.length);
}

/**
 * Opens Authorize and types right away: the user name has the focus.
 * @param {import("playwright-core").Page} page
 * @param {string} userid
 * @param {string} password
 */
async function authorize(page, userid, password) {
  await page.getByRole("button", { name: "Authorize", exact: true }).click();
  const dialog = page.locator(".auth-container", { hasText: "OAuth2" });
  await dialog.waitFor();
  await page.keyboard.type(userid);
  await page.keyboard.press("Tab");
  await page.keyboard.type(password);
  assert.equal(await dialog.getByLabel("username:").inputValue(), userid);
  assert.equal(await dialog.getByLabel("password:").inputValue(), password);
  return dialog;
}

await check("Swagger UI: Authorize with userid and password, then GET /auth/me answers 200", {}, async (page) => {
  const userid = `swagger-${process.pid}`;
  await registerDirectly(page, userid);
  await openDocs(page);
  await screenshot(page, "docs");

  const dialog = await authorize(page, userid, PASSWORD);
  await dialog.getByText("username is your userid").waitFor();
  await dialog.getByText("Leave client_id and client_secret empty").waitFor();
  await page.screenshot({ path: join(screenshots, "docs-authorize.png") });
  await dialog.getByRole("button", { name: "Apply given OAuth2 credentials" }).click();
  await dialog.getByRole("button", { name: "Remove authorization" }).waitFor();
  await page.getByRole("button", { name: "Close" }).first().click();

  const me = page.locator("#operations-session-me");
  await me.locator(".opblock-summary-control").click();
  await me.getByRole("button", { name: "Execute" }).click();
  const answer = me.locator(".live-responses-table .response");
  await answer.waitFor();
  assert.match(await answer.locator(".response-col_status").innerText(), /^200/);
  assert.match(await answer.innerText(), new RegExp(`"userid": "${userid}"`));
  await screenshot(page, "docs-me");
  return { refusals: 0 };
});

await check("Swagger UI: a wrong password is reported", {}, async (page) => {
  await openDocs(page);
  const dialog = await authorize(page, "nobody", "wrong");
  await dialog.getByRole("button", { name: "Apply given OAuth2 credentials" }).click();
  await dialog.getByText("The username or the password is wrong.").waitFor();
  await screenshot(page, "docs-wrong-password");
  return { refusals: 1 };
});

await check("Swagger UI: the operations come first, then the codes and the common headers", {}, async (page) => {
  await openDocs(page);
  const top = async (/** @type {import("playwright-core").Locator} */ of) => (await of.boundingBox())?.y ?? NaN;
  assert.equal(await page.locator(".info table").count(), 0);
  assert.equal(await page.locator("table").count(), 2);
  const operations = await top(page.locator(".opblock").last());
  const codes = await top(page.locator("table", { hasText: "40101" }));
  const headers = await top(page.locator("table", { hasText: "x-request-id" }));
  assert.ok(operations < codes && codes < headers, `${operations}, ${codes}, ${headers}`);
  return { refusals: 0 };
});

await check("Swagger UI: dark while the system is dark", { colorScheme: "dark" }, async (page) => {
  await openDocs(page);
  // Brightness of a colour, 0 to 255.
  const brightness = (/** @type {string} */ property) => page.locator(".tables td").last().evaluate((cell, property) => {
    const transparent = "rgba(0, 0, 0, 0)";
    /** @type {Element | null} */
    let element = cell;
    const colour = () => element ? getComputedStyle(element).getPropertyValue(property) : "rgb(255, 255, 255)";
    while (element && colour() === transparent) element = element.parentElement;
    return Math.max(...(colour().match(/\d+/g) ?? []).slice(0, 3).map(Number));
  }, property);
  assert.ok(await brightness("background-color") < 64 && await brightness("color") > 192);
  await page.locator("#operations-session-login .opblock-summary-control").click();
  await page.locator("#operations-session-login .responses-wrapper").waitFor();
  await screenshot(page, "docs-dark");
  await page.emulateMedia({ colorScheme: "light" });
  assert.ok(await brightness("background-color") > 192 && await brightness("color") < 96);
  return { refusals: 0 };
});

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  await check(`Swagger UI: on a phone, ${colorScheme}`, { ...PHONE, colorScheme }, async (page) => {
    await openDocs(page);
    // Caused by Swagger UI itself: pale greys, nested buttons, and a list of servers without a label.
    const excluded = ["color-contrast", "nested-interactive", "select-name"];
    await assertAccessible(page, excluded);
    await screenshot(page, `docs-phone-${colorScheme}`);
    await page.getByRole("button", { name: "Authorize", exact: true }).click();
    await page.locator(".auth-container").first().waitFor();
    await assertFits(page);
    await page.screenshot({ path: join(screenshots, `docs-phone-${colorScheme}-authorize.png`) });
    await page.getByRole("button", { name: "Close" }).first().click();
    for (const operation of await page.locator(".opblock-summary-control").all()) await operation.click();
    const health = page.locator("#operations-service-health");
    await health.getByRole("button", { name: "Execute" }).click();
    await health.locator(".live-responses-table .response").waitFor();
    await assertFits(page);
    await screenshot(page, `docs-phone-${colorScheme}-open`);
    return { refusals: 0 };
  });
}

for (const [device, options] of /** @type {const} */ ([
  ["desktop", {}], ["phone", PHONE], ["dark phone", { ...PHONE, colorScheme: "dark" }],
])) {
  await check(`the example on a ${device}: from rejected input to the log-out`, options, async (page) => {
    const name = device.replace(" ", "-");
    const userid = `${name}-${process.pid}`;
    const status = page.getByRole("status");
    const register = page.getByRole("form", { name: "Register" });
    const toggle = page.getByText("No account yet? Register");
    const login = page.getByRole("region", { name: "Log in" });
    const focus = () => page.evaluate(() => document.activeElement?.id);
    await page.goto(base);
    await assertAccessible(page);
    await screenshot(page, `example-${name}`);

    // The log-in is visible without scrolling, and the registration is one key away.
    await assertVisible(login.getByRole("button"));
    await assertVisible(toggle);
    assert.equal(await register.isVisible(), false);
    await login.getByRole("button").focus();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await register.waitFor();
    await page.waitForFunction(() => document.activeElement?.id === "register-userid");

    // Every rejected field is marked, with the reason, and the first one has the focus.
    await register.getByLabel("Userid").fill("white space");
    await register.getByLabel("Password").fill("short");
    await register.getByLabel("E-mail").fill("no address");
    await register.getByRole("button").click();
    await register.getByText("Please correct the marked fields.").waitFor();
    for (const [label, problem] of /** @type {const} */ ([
      ["Userid", "This must not have white space, control or invisible characters."],
      ["Password", "This must have at least 8 characters."],
      ["E-mail", "This must be an e-mail address of at most 254 characters."],
    ])) {
      const input = register.getByLabel(label);
      assert.equal(await input.getAttribute("aria-invalid"), "true", label);
      const described = (await input.getAttribute("aria-describedby"))?.split(" ").at(-1);
      assert.equal(await page.locator(`#${described}`).innerText(), problem);
    }
    assert.equal(await register.getByLabel("Name").getAttribute("aria-invalid"), "false");
    assert.equal(await focus(), "register-userid");
    await assertVisible(register.getByLabel("Userid"));
    await assertAccessible(page);
    await screenshot(page, `example-${name}-refused`);

    // Taken, also in another case.
    await registerDirectly(page, `taken-${userid}`);
    await register.getByLabel("Userid").fill(`TAKEN-${userid}`);
    await register.getByLabel("Password").fill(PASSWORD);
    await register.getByLabel("E-mail").fill("");
    await register.getByLabel("E-mail").press("Enter");
    await register.getByText("This userid is taken. Choose another one.").waitFor();
    assert.equal(await focus(), "register-userid");
    await assertVisible(register.getByText("This userid is taken. Choose another one."));
    await screenshot(page, `example-${name}-taken`);

    // A registered user is logged in. HTML in a name is shown as text.
    await register.getByLabel("Userid").fill(userid);
    await register.getByLabel("Name").fill("<b>Ａlice</b> 王小明");
    await register.getByRole("button").click();
    const member = page.getByRole("region", { name: "Logged in as <b>Ａlice</b> 王小明" });
    await member.waitFor();
    await assertVisible(status.getByText(`Registered as ${userid}.`));
    assert.deepEqual([await register.isVisible(), await login.isVisible()], [false, false]);
    assert.equal(await focus(), "member-heading");
    await assertVisible(member.getByRole("heading"));
    await member.getByRole("button", { name: "Who am I?" }).click();
    await member.locator("dd").filter({ hasText: userid }).waitFor();
    assert.equal(await member.locator("b").count(), 0);
    await assertAccessible(page);
    await screenshot(page, `example-${name}-me`);

    await member.getByRole("button", { name: "Log out" }).click();
    await assertVisible(status.getByText("You are logged out."));
    assert.equal(await member.isVisible(), false);
    // Nothing of the session is left, least of all a password.
    assert.deepEqual(await page.locator("input").evaluateAll((all) => all.map((/** @type {any} */ input) => input.value).join("")), "");
    assert.equal((await page.locator(".problem").allTextContents()).join(""), "");
    assert.equal(await register.isVisible(), false);
    assert.equal(await focus(), "login-heading");
    const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]);
    assert.deepEqual(kept, [0, 0, ""]);
    await screenshot(page, `example-${name}-logged-out`);

    await login.getByLabel("Userid").fill(userid);
    await login.getByLabel("Password").fill("wrong");
    await login.getByLabel("Password").press("Enter");
    await assertVisible(login.getByText("The userid or the password is wrong."));
    await screenshot(page, `example-${name}-wrong`);
    await login.getByLabel("Password").fill(PASSWORD);
    await login.getByRole("button").click();
    await member.waitFor();
    await assertVisible(status.getByText("You are logged in."));
    return { refusals: 3 };
  });
}

await check("the example: after a registration whose log-in fails, the log-in form is filled in", PHONE, async (page) => {
  const userid = `half-${process.pid}`;
  await page.goto(base);
  await page.getByText("No account yet? Register").click();
  const register = page.getByRole("form", { name: "Register" });
  await register.getByLabel("Userid").fill(userid);
  await register.getByLabel("Password").fill(PASSWORD);
  await page.route("**/auth/login", (route) => route.abort());
  await register.getByRole("button").click();
  const login = page.getByRole("region", { name: "Log in" });
  await assertVisible(login.getByText("The service cannot be reached. Try again later."));
  await assertVisible(page.getByRole("status").getByText(`Registered as ${userid}.`));
  await screenshot(page, "example-phone-half");
  await page.unroute("**/auth/login");
  await login.getByRole("button").click();
  await page.getByRole("region", { name: `Logged in as ${userid}` }).waitFor();
  // The browser reports the failed request.
  return { refusals: 0, failures: 1 };
});

await check("the example: a throttled request, and a token that was revoked elsewhere", {}, async (page) => {
  const userid = `fault-${process.pid}`;
  await registerDirectly(page, userid);
  await page.goto(base);
  const login = page.getByRole("region", { name: "Log in" });
  await login.getByLabel("Userid").fill(userid);
  await login.getByLabel("Password").fill(PASSWORD);
  // The response of a gateway that throttles.
  await page.route("**/auth/login", (route) => route.fulfill({ json: { message: "Too Many Requests" } }));
  await login.getByRole("button").click();
  await login.getByText("The service is busy. Try again later.").waitFor();
  await page.unroute("**/auth/login");
  const answered = page.waitForResponse("**/auth/login");
  await login.getByRole("button").click();
  const { data } = await (await answered).json();
  await page.getByRole("button", { name: "Who am I?" }).waitFor();
  await page.request.post(`${base}/auth/logout`, { headers: { authorization: `Bearer ${data.access_token}` } });
  await page.getByRole("button", { name: "Who am I?" }).click();
  await page.getByRole("status").getByText("You are logged out. Log in again.").waitFor();
  return { refusals: 1 };
});

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

await browser.close();
