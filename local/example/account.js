// @ts-check
// The start page: register, log in, forgotten password; for users who are logged in, their sessions, profile, password,
// e-mail address, and the deletion of the account.

import { call, explain, setToken } from "./api.js";
import {
  PRINTED, confirmed, element, filledIn, mark, onClick, onLoggedOut, onSubmit, refuse, setStatus,
} from "./page.js";
import { listSessions, readSessions } from "./sessions.js";
import { when } from "./words.js";

/** @typedef {import("./api.js").User} User */
/** @typedef {import("./api.js").Sent<"updateMe">} Profile */

const registration = element("registration", HTMLDetailsElement);
const forgot = element("forgot", HTMLDetailsElement);
const forms = {
  register: element("register", HTMLFormElement),
  login: element("login", HTMLFormElement),
  forgot: element("forgot-form", HTMLFormElement),
  profile: element("profile", HTMLFormElement),
  password: element("password", HTMLFormElement),
  email: element("email", HTMLFormElement),
  deletion: element("deletion", HTMLFormElement),
};

/**
 * Shows the part for guests or the one for members, and moves the focus there, for users of screen readers.
 * @param {User | undefined} user
 * @param {string} status
 */
function show(user, status) {
  setStatus(status);
  element("guest", HTMLElement).hidden = user !== undefined;
  element("member", HTMLElement).hidden = user === undefined;
  showUser(user);
  listSessions([], "");
  // Nothing that was typed, above all no password, stays in a hidden form.
  for (const form of Object.values(forms)) {
    form.reset();
    mark(form, "", {});
  }
  for (const details of document.querySelectorAll("details")) details.open = details.id === "devices";
  element(user ? "member-heading" : "login-heading", HTMLElement).focus();
}

/**
 * Shows who is logged in. Of the profile's form it sets what a change is compared with; what is being typed there stays.
 * @param {User | undefined} user
 */
function showUser(user) {
  element("member-name", HTMLElement).textContent = user?.user_name ?? "";
  element("member-userid", HTMLElement).textContent = user?.userid ?? "";
  element("member-email", HTMLElement).textContent = user ? user.email ?? "–" : "";
  element("member-verified", HTMLElement).textContent = user?.email ? ` (${user.email_verified ? "" : "not "}verified)` : "";
  element("member-since", HTMLElement).textContent = user ? when(user.reg_time) : "";
  for (const form of [forms.password, forms.email, forms.deletion]) form.userid.defaultValue = user?.userid ?? "";
  forms.email.email.defaultValue = user?.email ?? "";
  for (const input of forms.profile.querySelectorAll("input")) {
    input.defaultValue = user?.[/** @type {keyof Profile} */ (input.name)] ?? "";
  }
}
/**
 * Logs in with the values in the form.
 * @param {string} status message to show after success
 */
async function logIn(status) {
  const { userid = "", password = "" } = filledIn(forms.login);
  const answer = await call("login", { userid, password });
  if (answer.code !== 1) return refuse(forms.login, answer);
  setToken(answer.data.access_token);
  show(answer.data.user_info, status);
  await readSessions();
}

registration.addEventListener("toggle", () => {
  if (registration.open) element("register-userid", HTMLInputElement).focus();
});

forgot.addEventListener("toggle", () => {
  if (!forgot.open) return;
  const account = element("forgot-account", HTMLInputElement);
  account.value = forms.login.userid.value || account.value;
  account.focus();
});
// A page of a link that is no longer valid leads here.
if (location.hash === "#forgot") forgot.open = true;

onSubmit("forgot-form", async (form) => {
  const { account = "" } = filledIn(form);
  const answer = await call("forgotPassword", { account });
  if (answer.code !== 1) return refuse(form, answer);
  forgot.open = false;
  form.reset();
  element("forgot-summary", HTMLElement).focus();
  // The same for every account, and for none.
  setStatus(`If there is such an account, a mail with a link is on its way.${PRINTED}`);
});

onSubmit("register", async (form) => {
  const { userid = "", password = "", ...rest } = filledIn(form);
  const answer = await call("register", { userid, password, ...rest });
  if (answer.code !== 1) return refuse(form, answer);
  const welcome = `Registered as ${answer.data.user_info.userid}.`;
  // Log in right away. If that fails, the log-in form is already filled in.
  show(undefined, welcome);
  element("login-userid", HTMLInputElement).value = userid;
  element("login-password", HTMLInputElement).value = password;
  await logIn(welcome);
});

onSubmit("login", () => logIn("You are logged in."));

onClick("logout", async () => {
  const answer = await call("logout", undefined);
  if (answer.code === 1) leave("You are logged out.");
  else setStatus(explain(answer));
});

/** @param {string} why */
function leave(why) {
  setToken(undefined);
  show(undefined, why);
}

onLoggedOut(() => leave("Your session has ended. Please log in again."));

onClick("refresh", async () => {
  const answer = await call("me", undefined);
  if (answer.code !== 1) return setStatus(explain(answer));
  showUser(answer.data.user_info);
  if (await readSessions()) setStatus("Up to date.");
});

onSubmit("profile", async (form) => {
  // Only what was changed here is sent, so that changes from other devices are kept. null clears a field.
  const changed = [...form.querySelectorAll("input")].filter((input) => input.value !== input.defaultValue);
  if (!changed.length) return setStatus("Nothing has changed.");
  const answer = await call("updateMe", Object.fromEntries(changed.map((input) => [input.name, input.value || null])));
  if (answer.code !== 1) return refuse(form, answer);
  showUser(answer.data.user_info);
  form.reset();
  setStatus("Your profile is saved.");
});

onSubmit("password", async (form) => {
  const { current_password = "", new_password = "" } = filledIn(form);
  const answer = await call("changePassword", { current_password, new_password });
  if (answer.code !== 1) return refuse(form, answer);
  form.reset();
  setStatus("Your password is changed. All other devices are logged out.");
  await readSessions();
});

onSubmit("email", async (form) => {
  const { email = "", current_password = "" } = filledIn(form);
  const answer = await call("changeEmail", { email, current_password });
  if (answer.code !== 1) return refuse(form, answer);
  form.reset();
  setStatus(`A mail with a link is on its way to ${email}. Nothing changes until you follow it.${PRINTED}`);
});

onSubmit("deletion", async (form) => {
  const { password = "" } = filledIn(form);
  if (!password) return mark(form, "Please correct the marked fields.", { password: "This is required." });
  const userid = form.userid.value;
  if (!(await confirmed(`Delete the account ${userid}? Nobody can restore it.`, "Delete for good"))) return;
  const answer = await call("deleteUser", { password });
  if (answer.code !== 1) return refuse(form, answer);
  leave(`The account ${userid} is deleted.`);
});
