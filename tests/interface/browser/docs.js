// Swagger UI.

import assert from "node:assert/strict";
import { PASSWORD, PHONE, assertAccessible, assertFits, base, check, registerDirectly, screenshot } from "./harness.js";

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
  await screenshot(page, "docs-authorize", { fullPage: false });
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
    await screenshot(page, `docs-phone-${colorScheme}-authorize`, { fullPage: false });
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
