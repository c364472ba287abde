// The example client, from the registration to the log-out.

import assert from "node:assert/strict";
import { PASSWORD, PHONE, assertAccessible, assertVisible, base, check, registerDirectly, screenshot } from "./harness.js";

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

    // The log-in is visible without scrolling, and so are the ways to the registration and to a new password.
    await assertVisible(login.getByRole("button"));
    await assertVisible(toggle);
    assert.equal(await register.isVisible(), false);
    await login.getByRole("button").focus();
    await page.keyboard.press("Tab");
    assert.equal(await focus(), "forgot-summary");
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
    await assertVisible(member.getByRole("heading", { name: "Logged in as" }));
    await assertVisible(member.getByRole("definition").filter({ hasText: userid }));
    assert.equal(await member.locator("b").count(), 0);

    await member.getByRole("button", { name: "Log out" }).click();
    await assertVisible(status.getByText("You are logged out."));
    assert.equal(await member.isVisible(), false);
    // Nothing of the session is left, least of all a password.
    assert.deepEqual(await page.locator("input").evaluateAll((all) => all.map((/** @type {any} */ input) => input.value).join("")), "");
    assert.equal((await page.locator(".problem").allTextContents()).join(""), "");
    assert.equal(await register.isVisible(), false);
    assert.equal(await focus(), "login-heading");
    assert.equal((await page.locator("#member dd, #sessions").allTextContents()).join(""), "");
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

await check("the example: a throttled request", {}, async (page) => {
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
  await login.getByRole("button").click();
  await page.getByRole("region", { name: `Logged in as ${userid}` }).waitFor();
  return { refusals: 0 };
});
