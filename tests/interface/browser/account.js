// The example client, for users who are logged in: sessions, profile, password, deletion.

import assert from "node:assert/strict";
import {
  LOOKS, PASSWORD, PHONE, assertAccessible, assertStatus, assertVisible, base, check, focused, focusedId, registerDirectly,
  screenshot,
} from "./harness.js";

/** @typedef {import("playwright-core").Page} Page */

const NEW_PASSWORD = "six candles under the bridge";
const IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
  "Version/18.6 Mobile/15E148 Safari/604.1";
const EDGE = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 " +
  "Safari/537.36 Edg/142.0.0.0";
const FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0";
const UNKNOWN = "learn-chinese/1.0";
const ENDED = "Your session has ended. Please log in again.";

let users = 0;

/**
 * A new user, logged in on the page. `anotherDevice` logs the user in elsewhere and returns the header of that session.
 * @param {Page} page
 * @param {object} [profile]
 */
async function logIn(page, profile = {}) {
  const userid = `account-${process.pid}-${users += 1}`;
  await registerDirectly(page, userid, profile);
  await page.goto(base);
  const login = page.getByRole("region", { name: "Log in" });
  await login.getByLabel("Userid").fill(userid);
  await login.getByLabel("Password").fill(PASSWORD);
  await login.getByLabel("Password").press("Enter");
  await page.getByRole("status").getByText("You are logged in.").waitFor();
  await sessions(page).first().waitFor();
  return { userid, anotherDevice: (/** @type {string} */ userAgent) => logInDirectly(page, userid, PASSWORD, userAgent) };
}

/**
 * @param {Page} page
 * @param {string} userid
 * @param {string} password
 * @param {string} userAgent
 */
async function logInDirectly(page, userid, password, userAgent) {
  const headers = { "user-agent": userAgent };
  const answer = await page.request.post(`${base}/auth/login`, { data: { userid, password }, headers });
  const { code, data } = await answer.json();
  assert.equal(code, 1);
  return { authorization: `Bearer ${data.access_token}` };
}

/**
 * The response to `GET /auth/me` of another device.
 * @param {Page} page
 * @param {{ authorization: string }} headers
 */
async function me(page, headers) {
  return await (await page.request.get(`${base}/auth/me`, { headers })).json();
}

/** @param {Page} page */
function sessions(page) {
  return page.getByRole("region", { name: "Logged in as" }).getByRole("listitem");
}

/**
 * Opens one of the parts that are closed at first, and returns its form.
 * @param {Page} page
 * @param {"Profile" | "Password" | "E-mail address" | "Delete the account"} name
 */
async function open(page, name) {
  await page.locator("#member summary", { hasText: name }).click();
  const form = page.getByRole("form", { name });
  await form.waitFor();
  return form;
}

/**
 * The page shows the log-in with one sentence, and nothing of the user.
 * @param {Page} page
 * @param {string} status
 */
async function assertLoggedOut(page, status) {
  await assertStatus(page, status);
  assert.equal(await page.getByRole("region", { name: "Logged in as" }).isVisible(), false);
  assert.equal(await focused(page), "Log in");
  const left = await page.evaluate(() => [...document.querySelectorAll("input")].map(({ value }) => value)
    .concat([...document.querySelectorAll("#member dd, #sessions, .problem")].map((element) => element.textContent ?? "")));
  assert.equal(left.join(""), "");
}

for (const [name, options] of LOOKS) {
  await check(`the example on a ${name}: from the sessions to the deletion of the account`, options, async (page) => {
    const profile = { user_name: "Alice", email: "alice@example.com", country: "DE", job: "engineer" };
    const { userid, anotherDevice } = await logIn(page, profile);
    const [iphone, unknown] = [await anotherDevice(IPHONE), await anotherDevice(UNKNOWN)];
    const [firefox, edge] = [await anotherDevice(FIREFOX), await anotherDevice(EDGE)];
    const logOutOthers = page.getByRole("button", { name: "Log out everywhere else" });
    assert.equal(await logOutOthers.isVisible(), false);
    await page.getByRole("button", { name: "Refresh" }).click();
    await assertStatus(page, "Up to date.");
    const [shownUserid, shownEmail] = await page.getByRole("definition").allTextContents();
    assert.deepEqual([shownUserid, shownEmail], [userid, "alice@example.com (not verified)"]);
    // This device first, then the newest log-in first.
    const [own, ...others] = await sessions(page).allTextContents();
    assert.ok(own?.endsWith("This device"), own);
    assert.deepEqual(others.map((text) => text.replace(/Logged in .*/, "")),
      ["Edge on Windows", "Firefox on Linux", UNKNOWN, "Safari on iPhone"]);
    await assertAccessible(page);
    await screenshot(page, `account-${name}`);

    // End one. The focus moves to the next, from the last to the one before, and never gets lost.
    await page.getByRole("button", { name: "Log out Firefox on Linux" }).click();
    await assertStatus(page, "Firefox on Linux is logged out.");
    assert.equal(await focused(page), `Log out ${UNKNOWN}`);
    assert.equal((await me(page, firefox)).code, 40103);
    assert.equal((await me(page, unknown)).code, 1);
    await page.getByRole("button", { name: "Log out Safari on iPhone" }).click();
    await assertStatus(page, "Safari on iPhone is logged out.");
    assert.equal(await focused(page), `Log out ${UNKNOWN}`);
    await screenshot(page, `account-${name}-ended`, { fullPage: false });

    // End the others, after a confirmation. Escape and Cancel change nothing.
    const dialog = page.getByRole("dialog", { name: "Log out all other devices? This one stays logged in." });
    await logOutOthers.click();
    await assertVisible(dialog);
    await assertAccessible(page);
    await screenshot(page, `account-${name}-confirmation`, { fullPage: false });
    assert.equal(await focused(page), "Cancel");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    assert.equal(await focused(page), "Log out everywhere else");
    await logOutOthers.click();
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await dialog.waitFor({ state: "hidden" });
    assert.equal(await sessions(page).count(), 3);
    assert.equal((await me(page, edge)).code, 1);
    await logOutOthers.click();
    await dialog.getByRole("button", { name: "Log out all others" }).click();
    await assertStatus(page, "All other devices are logged out.");
    assert.equal(await focused(page), "Where you are logged in");
    assert.equal(await sessions(page).count(), 1);
    assert.equal(await logOutOthers.isVisible(), false);
    for (const headers of [iphone, unknown, edge]) assert.equal((await me(page, headers)).code, 40103);

    // Only what was changed is sent, and an emptied field clears.
    const form = await open(page, "Profile");
    assert.equal(await form.getByLabel("Name").inputValue(), "Alice");
    await form.getByRole("button").click();
    await assertStatus(page, "Nothing has changed.");
    await form.getByLabel("Country").fill("");
    await form.getByLabel("Phone").fill("call me");
    await form.getByRole("button").click();
    await form.getByText("Please correct the marked fields.").waitFor();
    assert.equal(await form.getByLabel("Phone").getAttribute("aria-invalid"), "true");
    await assertVisible(form.getByLabel("Phone"));
    assert.equal(await focusedId(page), "profile-phone");
    await assertAccessible(page);
    await form.getByLabel("Phone").fill("+49 30 123456");
    const patch = page.waitForRequest((request) => request.method() === "PATCH");
    await form.getByRole("button").click();
    assert.deepEqual((await patch).postDataJSON(), { country: null, phone: "+49 30 123456" });
    await assertStatus(page, "Your profile is saved.");
    assert.equal(await form.getByLabel("Phone").getAttribute("aria-invalid"), "false");
    // Whoever has no name is called by the userid.
    await form.getByLabel("Name").fill("");
    await form.getByLabel("Name").press("Enter");
    await page.getByRole("region", { name: `Logged in as ${userid}` }).waitFor();
    assert.equal(await form.getByLabel("Name").inputValue(), userid);
    await page.locator("summary", { hasText: "Profile" }).click();

    // A wrong password and a bad one are reported at the field.
    const another = await anotherDevice(IPHONE);
    const password = await open(page, "Password");
    await password.getByLabel("Current password").fill("wrong");
    await password.getByLabel("New password").fill(NEW_PASSWORD);
    await password.getByRole("button").click();
    await assertVisible(password.getByText("This is not your password."));
    assert.equal(await password.getByLabel("Current password").getAttribute("aria-invalid"), "true");
    assert.equal(await focusedId(page), "password-current_password");
    await assertAccessible(page);
    await screenshot(page, `account-${name}-wrong-password`);
    await password.getByLabel("Current password").fill(PASSWORD);
    await password.getByLabel("New password").fill("short");
    await password.getByRole("button").click();
    await assertVisible(password.getByText("This must have at least 8 characters."));
    assert.equal(await password.getByLabel("Current password").getAttribute("aria-invalid"), "false");
    assert.equal(await focusedId(page), "password-new_password");
    assert.equal((await me(page, another)).code, 1);
    await password.getByLabel("New password").fill(NEW_PASSWORD);
    await password.getByRole("button").click();
    await assertStatus(page, "Your password is changed. All other devices are logged out.");
    assert.equal(await password.getByLabel("New password").inputValue(), "");
    assert.equal((await me(page, another)).code, 40103);
    assert.equal(await sessions(page).count(), 1);
    await logInDirectly(page, userid, NEW_PASSWORD, IPHONE);

    // The deletion asks for the password and for a confirmation.
    const deletion = await open(page, "Delete the account");
    await deletion.getByRole("button").click();
    await assertVisible(deletion.getByText("This is required."));
    await deletion.getByLabel("Password").fill(PASSWORD);
    await deletion.getByRole("button").click();
    const confirmation = page.getByRole("dialog", { name: `Delete the account ${userid}? Nobody can restore it.` });
    await assertVisible(confirmation);
    await screenshot(page, `account-${name}-deletion`, { fullPage: false });
    await confirmation.getByRole("button", { name: "Cancel" }).click();
    await confirmation.waitFor({ state: "hidden" });
    await deletion.getByRole("button").click();
    await confirmation.getByRole("button", { name: "Delete for good" }).click();
    await assertVisible(deletion.getByText("This is not your password."));
    await assertAccessible(page);
    await screenshot(page, `account-${name}-open`);
    await deletion.getByLabel("Password").fill(NEW_PASSWORD);
    await deletion.getByLabel("Password").press("Enter");
    await confirmation.getByRole("button", { name: "Delete for good" }).click();
    await assertLoggedOut(page, `The account ${userid} is deleted.`);
    await screenshot(page, `account-${name}-deleted`);
    const gone = await page.request.post(`${base}/auth/login`, { data: { userid, password: NEW_PASSWORD } });
    assert.equal(gone.status(), 401);
    return { refusals: 4 };
  });
}

/** What a user can click, and what leads to a request. @type {[string, (page: Page) => Promise<void>][]} */
const ACTIONS = [
  ["Log out", (page) => page.getByRole("button", { name: "Log out", exact: true }).click()],
  ["Refresh", (page) => page.getByRole("button", { name: "Refresh" }).click()],
  ["Log out another device", (page) => page.getByRole("button", { name: "Log out Edge on Windows" }).click()],
  ["Log out everywhere else", async (page) => {
    await page.getByRole("button", { name: "Log out everywhere else" }).click();
    await page.getByRole("button", { name: "Log out all others" }).click();
  }],
  ["Save the profile", async (page) => {
    const form = await open(page, "Profile");
    await form.getByLabel("Job").fill("teacher");
    await form.getByRole("button").click();
  }],
  ["Change the password", async (page) => {
    const form = await open(page, "Password");
    await form.getByLabel("Current password").fill(PASSWORD);
    await form.getByLabel("New password").fill(NEW_PASSWORD);
    await form.getByRole("button").click();
  }],
  ["Send a mail", async (page) => {
    const form = await open(page, "E-mail address");
    await form.getByLabel("E-mail").fill("alice@example.com");
    await form.getByLabel("Current password").fill(PASSWORD);
    await form.getByRole("button").click();
  }],
  ["Delete the account", async (page) => {
    const form = await open(page, "Delete the account");
    await form.getByLabel("Password").fill(PASSWORD);
    await form.getByRole("button").click();
    await page.getByRole("button", { name: "Delete for good" }).click();
  }],
];

for (const [action, act] of ACTIONS) {
  await check(`the example: "${action}" after the session was ended from another device leads to the log-in`, {}, async (page) => {
    const { userid, anotherDevice } = await logIn(page);
    const headers = await anotherDevice(EDGE);
    await page.getByRole("button", { name: "Refresh" }).click();
    await sessions(page).nth(1).waitFor();
    const ended = await page.request.delete(`${base}/auth/sessions`, { headers });
    assert.deepEqual((await ended.json()).data, { ended: 1, more: false });
    await act(page);
    await assertLoggedOut(page, ENDED);
    await assertAccessible(page);
    // Nothing was changed, and the log-in works.
    await page.getByLabel("Userid").first().fill(userid);
    await page.getByLabel("Password").first().fill(PASSWORD);
    await page.getByLabel("Password").first().press("Enter");
    await page.getByRole("status").getByText("You are logged in.").waitFor();
    return { refusals: 1 };
  });
}

await check("the example: all of the account with the keyboard alone", {}, async (page) => {
  const { anotherDevice } = await logIn(page);
  const edge = await anotherDevice(EDGE);
  const firefox = await anotherDevice(FIREFOX);
  /** Tabs until an element with this text or accessible name, or a field with this id, has the focus. @param {string} to */
  const tab = async (to) => {
    for (let presses = 0; presses < 40; presses += 1) {
      await page.keyboard.press("Tab");
      if (await focused(page) === to || await focusedId(page) === to) return;
    }
    assert.fail(`no ${to} within 40 presses of Tab`);
  };
  const status = page.getByRole("status");
  await tab("Refresh");
  await page.keyboard.press("Enter");
  await status.getByText("Up to date.").waitFor();
  await tab("Log out Firefox on Linux");
  await page.keyboard.press("Enter");
  await status.getByText("Firefox on Linux is logged out.").waitFor();
  assert.equal(await focused(page), "Log out Edge on Windows");
  await tab("Log out everywhere else");
  await page.keyboard.press("Enter");
  await tab("Log out all others");
  // The dialog keeps the focus: what is behind it cannot be reached.
  await tab("Cancel");
  await tab("Log out all others");
  await page.keyboard.press("Enter");
  await status.getByText("All other devices are logged out.").waitFor();
  for (const headers of [edge, firefox]) assert.equal((await me(page, headers)).code, 40103);

  await tab("Profile");
  await page.keyboard.press("Enter");
  await tab("profile-user_name");
  await page.keyboard.type("Alice");
  await page.keyboard.press("Enter");
  await page.getByRole("region", { name: "Logged in as Alice" }).waitFor();
  await tab("Password");
  await page.keyboard.press("Space");
  await tab("password-current_password");
  await page.keyboard.type(PASSWORD);
  await tab("password-new_password");
  await page.keyboard.type(NEW_PASSWORD);
  await page.keyboard.press("Enter");
  await status.getByText("Your password is changed.").waitFor();
  await tab("Delete the account");
  await page.keyboard.press("Enter");
  await tab("deletion-password");
  await page.keyboard.type(NEW_PASSWORD);
  await page.keyboard.press("Enter");
  await tab("Delete for good");
  await page.keyboard.press("Enter");
  await status.getByText("is deleted.").waitFor();
  return { refusals: 0 };
});

for (const [name, options] of /** @type {const} */ ([["desktop", {}], ["phone", PHONE]])) {
  await check(`the example on a ${name}: a user agent and a name with HTML are text, and long ones fit`, options, async (page) => {
    const html = `<img src=x onerror="document.title='hacked'">`;
    // 64 code points; the last ones would reverse what follows.
    const user_name = `<b>${"W".repeat(57)}</b>`.slice(0, 62) + "\u202E!";
    const { userid, anotherDevice } = await logIn(page, { user_name });
    await anotherDevice(`${html}${"W".repeat(200)}`);
    await anotherDevice(html);
    await page.getByRole("button", { name: "Refresh" }).click();
    await sessions(page).nth(2).waitFor();
    const shown = await page.locator("#sessions bdi").allTextContents();
    assert.deepEqual(shown.slice(1), [html, `${html}${"W".repeat(60 - html.length)}…`]);
    assert.equal(await page.getByRole("heading", { name: "Logged in as" }).textContent(), `Logged in as ${user_name}`);
    await page.getByRole("button", { name: `Log out ${html}`, exact: true }).click();
    await assertStatus(page, `${html} is logged out.`);
    assert.deepEqual([await page.locator("#member :is(img, b)").count(), await page.title()], [0, "People: an example client"]);
    // Text that is written from right to left does not reverse its surroundings.
    for (const text of await page.locator("#member-name, #sessions bdi").all()) {
      assert.equal(await text.evaluate((element) => getComputedStyle(element).unicodeBidi), "isolate");
    }
    await assertAccessible(page);
    await screenshot(page, `account-${name}-hostile-text`);
    const form = await open(page, "Profile");
    assert.equal(await form.getByLabel("Name").inputValue(), user_name);
    await form.getByLabel("Name").fill(html);
    await form.getByRole("button").click();
    await page.getByRole("heading", { name: `Logged in as ${html}` }).waitFor();
    assert.equal(await page.title(), "People: an example client");
    assert.ok(userid);
    return { refusals: 0 };
  });
}

const CLOCK = new Date("2026-11-25T12:00:00Z");
const BERLIN = { timezoneId: "Europe/Berlin" };

await check("the example: devices and times in words", BERLIN, async (page) => {
  await logIn(page);
  await page.clock.setFixedTime(CLOCK);
  /** The response to the list of sessions. @param {[string | null, string | null, string, string, string][]} rows */
  const list = (rows) => rows.map(([user_agent, address, login_time, last_seen, expires_at], index) => ({
    session_id: `00000000-0000-4000-8000-00000000000${index}`, current: index === 1, user_agent, address, login_time, last_seen,
    expires_at,
  }));
  const all = list([
    [null, null, "2026-11-25T11:59:30.123456Z", "2026-11-25T11:59:30.123456Z", "2026-11-25T12:00:59Z"],
    [FIREFOX, "203.0.113.7", "2026-11-25T11:58:30Z", "2026-11-25T11:46:00Z", "2026-11-25T12:59:59Z"],
    [EDGE, "2001:db8::1", "2026-11-25T10:30:00Z", "2026-11-25T11:44:00Z", "2026-11-26T11:59:00Z"],
    [IPHONE, "203.0.113.7", "2026-10-01T08:05:00Z", "2026-11-24T11:59:00Z", "2027-10-01T08:05:00Z"],
    ["Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
      null, "2026-11-25T12:00:01Z", "2026-11-25T12:00:01Z", "2026-11-25T13:00:01Z"],
    ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
      null, "2026-11-25T12:00:00Z", "2026-11-25T12:00:00Z", "2026-11-25T13:00:00Z"],
    // What has no visible effect but on other text is left out.
    ["\u202Eprogram\u200B", null, "2026-11-25T12:00:00Z", "2026-11-25T12:00:00Z", "2026-11-25T13:00:00Z"],
  ]);
  await page.route("**/auth/sessions", (route) => route.fulfill({ json: { code: 1, message: "success", data: { sessions: all } } }));
  await page.getByRole("button", { name: "Refresh" }).click();
  await sessions(page).nth(6).waitFor();
  const recent = "Last used in the last 15 minutes.";
  assert.deepEqual(await sessions(page).allTextContents(), [
    `Firefox on LinuxLogged in 1 minute ago from 203.0.113.7. ${recent} Expires in 59 minutes.This device`,
    `Unknown deviceLogged in just now. ${recent} Expires just now.Log out`,
    "Edge on WindowsLogged in 1 hour ago from 2001:db8::1. Last used 16 minutes ago. Expires in 23 hours.Log out",
    "Safari on iPhoneLogged in on 1 Oct 2026, 10:05 from 203.0.113.7. Last used on 24 Nov 2026, 12:59. " +
      "Expires on 1 Oct 2027, 10:05.Log out",
    `Chrome on AndroidLogged in just now. ${recent} Expires in 1 hour.Log out`,
    `Safari on MacLogged in just now. ${recent} Expires in 1 hour.Log out`,
    `programLogged in just now. ${recent} Expires in 1 hour.Log out`,
  ]);
  return { refusals: 0 };
});

await check("the example: too many attempts are reported with the time to wait", PHONE, async (page) => {
  await logIn(page);
  const form = await open(page, "Password");
  await form.getByLabel("Current password").fill("wrong");
  await form.getByLabel("New password").fill(NEW_PASSWORD);
  let refusals = 0;
  // The service has its free failures, then the wait doubles from a second.
  while (!/^Too many attempts\. Try again in \d+ seconds?\.$/.test(await form.getByRole("alert").innerText())) {
    assert.ok(refusals < 30, await form.getByRole("alert").innerText());
    const answered = page.waitForResponse("**/auth/password");
    await form.getByRole("button").click();
    await answered;
    refusals += 1;
    await form.getByRole("alert").filter({ hasText: /./ }).waitFor();
  }
  await screenshot(page, "account-phone-too-many", { fullPage: false });
  for (const [retry_after, words] of /** @type {const} */ ([[1, "1 second"], [59, "59 seconds"], [60, "1 minute"], [61, "2 minutes"],
    [900, "15 minutes"]])) {
    await page.route("**/auth/password", (route) => route.fulfill(
      { status: 429, json: { code: 42901, message: "There were too many attempts.", data: { retry_after } } }));
    await form.getByRole("button").click();
    await form.getByText(`Too many attempts. Try again in ${words}.`).waitFor();
    refusals += 1;
  }
  assert.equal(await form.getByLabel("Current password").getAttribute("aria-invalid"), "false");
  return { refusals };
});

await check("the example: all others are ended, also when that takes several requests, and a failure is reported", {}, async (page) => {
  const { anotherDevice } = await logIn(page);
  const headers = await anotherDevice(EDGE);
  await page.getByRole("button", { name: "Refresh" }).click();
  const end = async () => {
    await page.getByRole("button", { name: "Log out everywhere else" }).click();
    await page.getByRole("button", { name: "Log out all others" }).click();
  };
  /** @type {(object | string | undefined)[]} */
  let answers = [{ code: 1, message: "success", data: { ended: 1000, more: true } }, undefined];
  await page.route("**/auth/sessions", (route) => {
    const answer = route.request().method() === "DELETE" ? answers.shift() : "";
    if (answer === undefined) return route.abort();
    return answer === "" ? route.continue() : route.fulfill({ json: answer });
  });
  await end();
  await assertStatus(page, "The service cannot be reached. Try again later.");
  assert.equal(await sessions(page).count(), 2);
  assert.equal((await me(page, headers)).code, 1);
  answers = [{ code: 1, message: "success", data: { ended: 1000, more: true } }, ""];
  await end();
  await assertStatus(page, "All other devices are logged out.");
  assert.equal(await sessions(page).count(), 1);
  assert.equal((await me(page, headers)).code, 40103);
  return { refusals: 0, failures: 1 };
});

await check("the example: sessions that ended meanwhile, a double click, and a list that cannot be read", {}, async (page) => {
  const { anotherDevice } = await logIn(page);
  const ended = await anotherDevice(FIREFOX);
  for (const _ of Array(3)) await anotherDevice(EDGE);
  await page.getByRole("button", { name: "Refresh" }).click();
  await sessions(page).nth(4).waitFor();
  await page.request.post(`${base}/auth/logout`, { headers: ended });
  await page.getByRole("button", { name: "Log out Firefox on Linux" }).click();
  await assertStatus(page, "Firefox on Linux is logged out.");
  assert.equal(await sessions(page).count(), 4);

  // The second click of a double click does not end the session that has moved under the pointer.
  const button = page.getByRole("button", { name: "Log out Edge on Windows" }).first();
  await button.click();
  await assertStatus(page, "Edge on Windows is logged out.");
  await button.dispatchEvent("click", { detail: 2 });
  await page.getByRole("button", { name: "Refresh" }).click();
  await assertStatus(page, "Up to date.");
  assert.equal(await sessions(page).count(), 3);

  await page.route("**/auth/sessions", (route) => route.fulfill(
    { status: 429, json: { message: "Too Many Requests" } }));
  await page.getByRole("button", { name: "Refresh" }).click();
  await page.getByRole("region", { name: "Logged in as" }).getByText("The service is busy. Try again later.").waitFor();
  assert.equal(await sessions(page).count(), 0);
  await page.unroute("**/auth/sessions");
  await page.getByRole("button", { name: "Refresh" }).click();
  await sessions(page).nth(2).waitFor();
  assert.equal(await page.locator("#sessions-problem").textContent(), "");
  return { refusals: 2 };
});

await check("the example: changes from another device are kept, and so is what is being typed", {}, async (page) => {
  const { anotherDevice } = await logIn(page, { country: "DE", job: "engineer" });
  const headers = await anotherDevice(EDGE);
  const form = await open(page, "Profile");
  await form.getByLabel("Country").fill("AT");
  const changed = await page.request.patch(`${base}/auth/me`, { headers, data: { job: "teacher", user_name: "Alice" } });
  assert.equal(changed.status(), 200);
  await page.getByRole("button", { name: "Refresh" }).click();
  await page.getByRole("region", { name: "Logged in as Alice" }).waitFor();
  assert.equal(await form.getByLabel("Job").inputValue(), "teacher");
  assert.equal(await form.getByLabel("Country").inputValue(), "AT");
  await page.request.patch(`${base}/auth/me`, { headers, data: { job: "pilot" } });
  await form.getByRole("button").click();
  await assertStatus(page, "Your profile is saved.");
  const { data } = await me(page, headers);
  assert.deepEqual([data.user_info.country, data.user_info.job, data.user_info.user_name], ["AT", "pilot", "Alice"]);
  assert.equal(await form.getByLabel("Job").inputValue(), "pilot");
  return { refusals: 0 };
});
