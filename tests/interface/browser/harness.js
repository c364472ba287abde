// What the tests in the browser share.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { mailTo } from "../mails.js";

const [, , address = "", directory = "", output = ""] = process.argv;
export const base = address;
assert.ok(base && directory && output, "the address of the service, a directory for screenshots, and the output of `local`");
mkdirSync(directory, { recursive: true });

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const PASSWORD = "correct horse battery staple";
export const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
/** A desktop and a phone, light and dark. */
export const LOOKS = /** @type {const} */ ([
  ["desktop", {}], ["dark-desktop", { colorScheme: "dark" }], ["phone", PHONE], ["dark-phone", { ...PHONE, colorScheme: "dark" }],
]);

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {import("playwright-core").BrowserContextOptions} Options */

/**
 * Opens a page, runs `test`, and asserts that nothing else went wrong: no violation of the content security policy, no
 * error on the console except for the expected number of 4xx responses and failed requests, no request to another host.
 * @param {string} title
 * @param {Options} options
 * @param {(page: Page, another: (options: Options) => Promise<Page>) => Promise<{ refusals: number, failures?: number }>} test
 *   `another` opens a page on another device
 */
export async function check(title, options, test) {
  /** @type {import("playwright-core").BrowserContext[]} */
  const contexts = [];
  const found = { problems: /** @type {string[]} */ ([]), refusals: 0, failures: 0 };
  const open = async (/** @type {Options} */ options) => {
    const context = await browser.newContext(options);
    contexts.push(context);
    const page = await context.newPage();
    await watch(page, found);
    return page;
  };
  const expected = await test(await open(options), open);
  assert.deepEqual(found, { problems: [], failures: 0, ...expected }, title);
  for (const context of contexts) await context.close();
  console.log(`ok    ${title}`);
}

/**
 * Notes what goes wrong on a page.
 * @param {Page} page
 * @param {{ problems: string[], refusals: number, failures: number }} found
 */
async function watch(page, found) {
  const { problems } = found;
  // Generous, since the machine may be busy.
  page.setDefaultTimeout(120_000);
  page.on("pageerror", (error) => problems.push(`thrown: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    if (/the server responded with a status of 4\d\d/.test(message.text())) found.refusals += 1;
    else if (message.text().includes("net::ERR_FAILED")) found.failures += 1;
    else problems.push(`${message.type()}: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(`${base}/`) && !request.url().startsWith("data:")) problems.push(`sent to ${request.url()}`);
  });
  await page.addInitScript(() => document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`refused by the policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`)));
}

/**
 * Waits for the `nth` mail to an address, which has this subject.
 * @param {string} address
 * @param {number} nth from 1
 * @param {string} subject
 */
export function mail(address, nth, subject) {
  return mailTo(output, address, nth, subject);
}

/**
 * @param {Page} page
 * @param {string} name
 * @param {{ fullPage: boolean }} [options] false: what is visible without scrolling
 */
export async function screenshot(page, name, { fullPage } = { fullPage: true }) {
  await page.screenshot({ path: join(directory, `${name}.png`), fullPage });
}

/**
 * Asserts that axe finds nothing serious or critical, and that nothing scrolls horizontally.
 * @param {Page} page
 * @param {string[]} [excluded] rules
 */
export async function assertAccessible(page, excluded = []) {
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
 * @param {Page} page
 */
export async function assertFits(page) {
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
export async function assertVisible(locator) {
  await locator.waitFor();
  const { width, height } = locator.page().viewportSize() ?? { width: 0, height: 0 };
  const box = await locator.boundingBox();
  const inside = box && box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height;
  assert.ok(inside, `${locator}: ${JSON.stringify(box)}`);
}

/**
 * @param {Page} page
 * @param {string} userid
 * @param {object} [profile]
 */
export async function registerDirectly(page, userid, profile = {}) {
  const answer = await page.request.post(`${base}/user/register`, { data: { ...profile, userid, password: PASSWORD } });
  assert.equal(answer.status(), 200);
}

/**
 * The text or the accessible name of the focused element.
 * @param {Page} page
 */
export async function focused(page) {
  return page.evaluate(() => document.activeElement?.ariaLabel ?? document.activeElement?.textContent);
}

/** @param {Page} page */
export async function focusedId(page) {
  return page.evaluate(() => document.activeElement?.id);
}

/**
 * The status has this text, is visible without scrolling, and does not cover the focused element.
 * @param {Page} page
 * @param {string} text
 */
export async function assertStatus(page, text) {
  const status = page.getByRole("status").getByText(text, { exact: true });
  await assertVisible(status);
  const covered = await page.evaluate(() => {
    const bottom = document.getElementById("status")?.getBoundingClientRect().bottom ?? 0;
    const focused = document.activeElement;
    const sticks = document.getElementById("status")?.getBoundingClientRect().top === 0;
    return sticks && focused !== document.body && focused !== null && focused.getBoundingClientRect().top < bottom - 1;
  });
  assert.equal(covered, false, `${text} covers the focus`);
}
