// The pages of the links in mails: a forgotten password, and the e-mail address.

import assert from "node:assert/strict";
import {
  LOOKS, PASSWORD, PHONE, assertAccessible, assertStatus, assertVisible, base, check, focused, focusedId, mail, registerDirectly,
  screenshot,
} from "./harness.js";

/** @typedef {import("playwright-core").Page} Page */

const NEW_PASSWORD = "six candles under the bridge";
const ASKED = "If there is such an account, a mail with a link is on its way. " +
  "Here, the program “local” prints it on its standard output.";
const INVALID = "This link is not valid: it was used already, is too old or incomplete, or the account has changed since.";
const RESET = "Set a new password";
const CONFIRM = "Confirm your e-mail address";

/**
 * @param {Page} page
 * @param {string} userid
 * @param {string} password
 */
async function logIn(page, userid, password) {
  const login = page.getByRole("region", { name: "Log in" });
  await login.getByLabel("Userid").fill(userid);
  await login.getByLabel("Password").fill(password);
  await login.getByLabel("Password").press("Enter");
  await assertStatus(page, "You are logged in.");
}

/**
 * Asks for a mail with a link that sets a new password.
 * @param {Page} page at the log-in
 * @param {string} account
 */
async function forget(page, account) {
  await page.getByRole("region", { name: "Log in" }).getByLabel("Userid").fill(account);
  await page.getByText("I forgot my password").click();
  const form = page.getByRole("form", { name: "I forgot my password" });
  await page.waitForFunction(() => document.activeElement?.id === "forgot-account");
  assert.equal(await form.getByLabel("Userid or e-mail").inputValue(), account);
  return form;
}

/**
 * Asks for a mail with a link that verifies an address.
 * @param {Page} page of a user who is logged in
 * @param {string} email
 * @param {string} password
 */
async function askAddress(page, email, password) {
  const form = page.getByRole("form", { name: "E-mail address" });
  if (!(await form.isVisible())) await page.locator("summary", { hasText: "E-mail address" }).click();
  await form.getByLabel("E-mail").fill(email);
  await form.getByLabel("Current password").fill(password);
  await form.getByRole("button").click();
  return form;
}

/**
 * Nothing shows or keeps the token: neither the address bar, nor the history, nor any storage.
 * @param {Page} page
 * @param {string} path
 */
async function assertNoToken(page, path) {
  assert.equal(await page.evaluate(() => location.href), base + path);
  const kept = await page.evaluate(async () => [
    localStorage.length, sessionStorage.length, document.cookie, history.state, (await indexedDB.databases()).length,
    (await caches.keys()).length, document.referrer,
  ]);
  assert.deepEqual(kept, [0, 0, "", null, 0, 0, ""]);
}

/** @param {Page} page */
async function address(page) {
  await page.getByRole("button", { name: "Refresh" }).click();
  await assertStatus(page, "Up to date.");
  return page.getByRole("definition").nth(1).innerText();
}

for (const [name, options] of LOOKS) {
  await check(`the example on a ${name}: a forgotten password, then another address, to the deletion`, options, async (page, another) => {
    const userid = `links-${name}-${process.pid}`;
    const [first, second] = [`${userid}@example.com`, `${userid}@example.org`];
    await page.goto(base);
    await page.getByText("No account yet? Register").click();
    const register = page.getByRole("form", { name: "Register" });
    await register.getByLabel("Userid").fill(userid);
    await register.getByLabel("Password").fill(PASSWORD);
    await register.getByLabel("E-mail").fill(first);
    await register.getByRole("button").click();
    await assertStatus(page, `Registered as ${userid}.`);
    const phone = await another(PHONE);
    await phone.goto(base);
    await logIn(phone, userid, PASSWORD);

    // On a third device, where nobody is logged in.
    const lost = await another(options);
    await lost.goto(base);
    const form = await forget(lost, userid);
    await assertAccessible(lost);
    await screenshot(lost, `forgot-${name}`);
    await form.getByRole("button").click();
    await assertStatus(lost, ASKED);
    assert.equal(await focused(lost), "I forgot my password");
    assert.equal(await form.isVisible(), false);
    await screenshot(lost, `forgot-${name}-asked`, { fullPage: false });

    const forgotten = await mail(first, 1, RESET);
    assert.ok(forgotten.link.startsWith(`${base}/reset-password#token=`), forgotten.link);
    await lost.goto(forgotten.link);
    const reset = lost.getByRole("form", { name: RESET });
    await lost.waitForFunction(() => document.activeElement?.id === "new_password");
    await assertNoToken(lost, "/reset-password");
    await assertAccessible(lost);
    await assertVisible(reset.getByRole("button"));
    await screenshot(lost, `reset-${name}`);
    await reset.getByLabel("New password").fill(`${userid}1`);
    await reset.getByRole("button").click();
    await reset.getByText("Please correct the marked fields.").waitFor();
    assert.equal(await reset.getByLabel("New password").getAttribute("aria-invalid"), "true");
    assert.equal(await focusedId(lost), "new_password");
    await assertAccessible(lost);
    await screenshot(lost, `reset-${name}-refused`);
    await reset.getByLabel("New password").fill(NEW_PASSWORD);
    await reset.getByLabel("New password").press("Enter");
    await assertStatus(lost, "Your new password is set. All devices are logged out.");
    assert.equal(await focused(lost), "Log in");
    assert.equal(await lost.locator("#new_password").inputValue(), "");
    assert.equal(await reset.isVisible(), false);
    await assertNoToken(lost, "/reset-password");
    await assertAccessible(lost);
    await screenshot(lost, `reset-${name}-done`);

    // Both devices notice at the next action.
    for (const device of [page, phone]) {
      await device.getByRole("button", { name: "Refresh" }).click();
      await assertStatus(device, "Your session has ended. Please log in again.");
      assert.equal(await focused(device), "Log in");
    }
    // The owner is told, and the old password is no longer one.
    await mail(first, 2, "Your password was changed");
    const old = await page.request.post(`${base}/auth/login`, { data: { userid, password: PASSWORD } });
    assert.equal(old.status(), 401);

    // The link leads back to the log-in. It works once.
    await lost.getByRole("link", { name: "Log in" }).click();
    await logIn(lost, userid, NEW_PASSWORD);
    await page.goto(forgotten.link);
    await page.getByRole("form", { name: RESET }).getByLabel("New password").fill("seven lamps");
    await page.getByRole("form", { name: RESET }).getByRole("button").click();
    await assertStatus(page, INVALID);
    assert.equal(await focused(page), "Ask for a new mail");
    assert.equal(await page.getByRole("form").count(), 0);
    await assertAccessible(page);
    await screenshot(page, `reset-${name}-used`);
    await page.keyboard.press("Enter");
    await page.getByRole("form", { name: "I forgot my password" }).waitFor();
    await page.waitForFunction(() => document.activeElement?.id === "forgot-account");

    // The mail has proved the address. Change it: nothing changes before the link is followed.
    assert.equal(await address(lost), `${first} (verified)`);
    const change = await askAddress(lost, "nowhere", "wrong");
    await change.getByText("This is not your password.").waitFor();
    assert.equal(await focusedId(lost), "email-current_password");
    await askAddress(lost, "nowhere", NEW_PASSWORD);
    await change.getByText("This must be an e-mail address of at most 254 characters.").waitFor();
    assert.equal(await focusedId(lost), "email-email");
    await assertAccessible(lost);
    await screenshot(lost, `address-${name}-refused`);
    await askAddress(lost, second, NEW_PASSWORD);
    await assertStatus(lost, `A mail with a link is on its way to ${second}. Nothing changes until you follow it. ` +
      "Here, the program “local” prints it on its standard output.");
    assert.deepEqual([await change.getByLabel("E-mail").inputValue(), await change.getByLabel("Current password").inputValue()],
      [first, ""]);
    await screenshot(lost, `address-${name}-asked`, { fullPage: false });
    const changing = await mail(second, 1, CONFIRM);
    assert.ok(changing.link.startsWith(`${base}/confirm-email#token=`), changing.link);
    assert.equal(await address(lost), `${first} (verified)`);
    await page.goto(changing.link);
    const confirm = page.getByRole("form", { name: CONFIRM });
    await confirm.waitFor();
    await assertNoToken(page, "/confirm-email");
    await assertAccessible(page);
    await assertVisible(confirm.getByRole("button"));
    await screenshot(page, `confirm-${name}`);
    // With the keyboard alone.
    for (let presses = 0; await focused(page) !== "Confirm this address"; presses += 1) {
      assert.ok(presses < 5);
      await page.keyboard.press("Tab");
    }
    await page.keyboard.press("Enter");
    await assertStatus(page, "Your e-mail address is confirmed.");
    assert.equal(await focused(page), "To your account");
    await assertNoToken(page, "/confirm-email");
    await assertAccessible(page);
    await screenshot(page, `confirm-${name}-done`);
    assert.equal(await address(lost), `${second} (verified)`);
    // The former address is told.
    await mail(first, 3, "Your e-mail address was changed");

    // Another change ends links of earlier ones.
    await askAddress(lost, first, NEW_PASSWORD);
    const back = await mail(first, 4, CONFIRM);
    await page.goto(back.link);
    await confirm.getByRole("button").click();
    await assertStatus(page, "Your e-mail address is confirmed.");
    await page.goto(changing.link);
    await confirm.getByRole("button").click();
    await assertStatus(page, INVALID);
    assert.equal(await focused(page), "Log in");
    await assertAccessible(page);
    await screenshot(page, `confirm-${name}-used`);
    assert.equal(await address(lost), `${first} (verified)`);

    await lost.locator("summary", { hasText: "Delete the account" }).click();
    await lost.getByRole("form", { name: "Delete the account" }).getByLabel("Password").fill(NEW_PASSWORD);
    await lost.getByRole("form", { name: "Delete the account" }).getByRole("button").click();
    await lost.getByRole("button", { name: "Delete for good" }).click();
    await assertStatus(lost, `The account ${userid} is deleted.`);
    await mail(first, 5, "Your account was deleted");
    // 422 and 410, 401 twice, 410, 403 and 422, 410.
    return { refusals: 7 };
  });
}

await check("the example: a registered address is verified with the keyboard alone", {}, async (page) => {
  const userid = `verify-${process.pid}`;
  const email = `${userid}@example.com`;
  await registerDirectly(page, userid, { email });
  await page.goto(base);
  await logIn(page, userid, PASSWORD);
  assert.equal(await address(page), `${email} (not verified)`);
  const tab = async (/** @type {string} */ to) => {
    for (let presses = 0; presses < 40; presses += 1) {
      await page.keyboard.press("Tab");
      if (await focused(page) === to || await focusedId(page) === to) return;
    }
    assert.fail(`no ${to} within 40 presses of Tab`);
  };
  await tab("E-mail address");
  await page.keyboard.press("Enter");
  await tab("email-email");
  // The present one is filled in.
  assert.equal(await page.locator("#email-email").inputValue(), email);
  await tab("email-current_password");
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press("Enter");
  await page.getByRole("status").getByText(`A mail with a link is on its way to ${email}.`).waitFor();
  const { link } = await mail(email, 1, CONFIRM);
  await page.goto(link);
  await tab("Confirm this address");
  await page.keyboard.press("Space");
  await assertStatus(page, "Your e-mail address is confirmed.");
  await page.keyboard.press("Enter");
  await logIn(page, userid, PASSWORD);
  assert.equal(await address(page), `${email} (verified)`);
  return { refusals: 0 };
});

await check("the example: no look at a link uses it up, also by a scanner that runs scripts", {}, async (page, another) => {
  const userid = `scanned-${process.pid}`;
  const email = `${userid}@example.com`;
  await registerDirectly(page, userid, { email });
  await page.goto(base);
  await (await forget(page, email)).getByRole("button").click();
  await assertStatus(page, ASKED);
  const reset = await mail(email, 1, RESET);
  await logIn(page, userid, PASSWORD);
  await askAddress(page, email, PASSWORD);
  const confirm = await mail(email, 2, CONFIRM);
  const scanner = await another({});
  /** @type {string[]} */
  const sent = [];
  scanner.on("request", (request) => sent.push(`${request.method()} ${request.url()}`));
  for (const { link, token } of [reset, confirm]) {
    const path = new URL(link).pathname;
    for (const url of [link, `${base}${path}?token=${token}`]) {
      for (const method of ["GET", "HEAD"]) {
        const answer = await page.request.fetch(url, { method });
        assert.deepEqual([answer.status(), answer.headers()["referrer-policy"]], [200, "no-referrer"], `${method} ${url}`);
      }
    }
    for (const method of ["GET", "HEAD", "OPTIONS"]) {
      for (const endpoint of ["/auth/reset", "/auth/email/confirm"]) {
        const answer = await page.request.fetch(`${base}${endpoint}?token=${token}&new_password=x`, { method });
        assert.equal(answer.status(), 405, `${method} ${endpoint}`);
      }
    }
    await scanner.goto(link);
    await scanner.getByRole("form").waitFor();
    // Scanners move the mouse, scroll, follow links and wait.
    await scanner.mouse.move(100, 300);
    await scanner.mouse.wheel(0, 1_000);
    await scanner.waitForLoadState("networkidle");
    await scanner.reload();
    await scanner.getByRole("link").click();
    await scanner.getByRole("heading", { name: "Log in" }).waitFor();
  }
  assert.deepEqual(sent.filter((request) => !request.startsWith("GET ") || /[?]|token/.test(request)), []);

  // Both still work: the address first, since a new password ends its link.
  await page.goto(confirm.link);
  await page.getByRole("button", { name: "Confirm this address" }).click();
  await assertStatus(page, "Your e-mail address is confirmed.");
  await page.goto(reset.link);
  await page.getByRole("textbox", { name: "New password" }).fill(NEW_PASSWORD);
  await page.getByRole("button").click();
  await assertStatus(page, "Your new password is set. All devices are logged out.");
  return { refusals: 0 };
});

await check("the example: whether there is such an account is not told, and there may be too many mails", PHONE, async (page) => {
  await page.goto(base);
  await (await forget(page, `nobody-${process.pid}@example.com`)).getByRole("button").click();
  await assertStatus(page, ASKED);
  const form = await forget(page, " ");
  await form.getByRole("button").click();
  await form.getByText("Please correct the marked fields.").waitFor();
  assert.equal(await focusedId(page), "forgot-account");
  await assertAccessible(page);
  await page.route("**/auth/forgot", (route) => route.fulfill(
    { status: 429, json: { code: 42901, message: "There were too many attempts.", data: { retry_after: 180 } } }));
  await form.getByRole("button").click();
  await form.getByText("Too many attempts. Try again in 3 minutes.").waitFor();
  await screenshot(page, "forgot-phone-too-many");
  return { refusals: 2 };
});

await check("the example: pages of links without a link, with a broken one, and with a second one in the same tab", PHONE, async (page) => {
  for (const [path, name] of /** @type {const} */ ([["/reset-password", RESET], ["/confirm-email", CONFIRM]])) {
    for (const fragment of ["", "#", "#token=", "#top"]) {
      await page.goto("about:blank");
      await page.goto(`${base}${path}${fragment}`);
      await page.getByText("by the link in a mail").waitFor();
      assert.equal(await page.getByRole("form").count(), 0);
    }
    await assertAccessible(page);
    await screenshot(page, `${path.slice(1)}-phone-without`);
    // The same document, with another fragment.
    await page.goto(`${base}${path}#token=cut-off`);
    await page.getByRole("form", { name }).waitFor();
    await assertNoToken(page, path);
    await page.route("**/auth/**", (route) => route.abort());
    if (name === RESET) await page.getByRole("textbox", { name: "New password" }).fill(NEW_PASSWORD);
    await page.getByRole("button").click();
    await page.getByRole("alert").getByText("The service cannot be reached. Try again later.").waitFor();
    // The link is not lost.
    await page.unroute("**/auth/**");
    await page.getByRole("button").click();
    await assertStatus(page, INVALID);
    await page.goto(`${base}${path}#token=another`);
    await page.getByRole("form", { name }).waitFor();
    assert.equal(await page.getByRole("status").textContent(), "");
    await page.getByRole("link").waitFor({ state: "hidden" });
  }
  return { refusals: 2, failures: 2 };
});
