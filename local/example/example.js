// @ts-check
// A client of the account service: register, log in, manage sessions, profile and password, delete the account. Its types
// are generated from the OpenAPI description (see docs/clients.md), so that a misspelt member or an unhandled response does
// not compile.

/** @typedef {import("./people").operations} Operations */
/** @typedef {import("./people").components["schemas"]["User"]} User */
/** @typedef {import("./people").components["schemas"]["Session"]} Session */
/** @typedef {keyof Operations} Name */

/**
 * Every response of an operation, in the envelope. `code` tells them apart.
 * @template {Name} N
 * @typedef {Extract<
 *   { [S in keyof Operations[N]["responses"]]:
 *       Operations[N]["responses"][S] extends { content: { "application/json": infer A } } ? A : never
 *   }[keyof Operations[N]["responses"]],
 *   { code: number }
 * >} Answer
 */

/**
 * The request body of an operation, if it has one.
 * @template {Name} N
 * @typedef {Operations[N] extends { requestBody: { content: { "application/json": infer B } } } ? B : undefined} Sent
 */

/** @satisfies {Partial<Record<Name, [string, keyof import("./people").paths]>>} */
const ROUTES = /** @type {const} */ ({
  register: ["POST", "/user/register"],
  login: ["POST", "/auth/login"],
  logout: ["POST", "/auth/logout"],
  me: ["GET", "/auth/me"],
  updateMe: ["PATCH", "/auth/me"],
  listSessions: ["GET", "/auth/sessions"],
  endSession: ["DELETE", "/auth/sessions/{session_id}"],
  endOtherSessions: ["DELETE", "/auth/sessions"],
  changePassword: ["POST", "/auth/password"],
  deleteUser: ["POST", "/user/delete"],
});

/**
 * The access token. In memory only: neither another page nor a later user of this browser can find it. A reload loses it;
 * the page explains what a real application does about that.
 * @type {string | undefined}
 */
let token;

/** The service refused the token: it has expired, or its session has ended. */
class LoggedOut extends Error {}

/** @typedef {{ code: 0, message: string }} NoAnswer no connection, or a response of a gateway */

/**
 * What {@link call} returns.
 * @template {Name} N
 * @typedef {Exclude<Answer<N>, { code: 40102 | 40103 }> | NoAnswer} Outcome
 */

/** @typedef {Exclude<{ [N in keyof typeof ROUTES]: Outcome<N> }[keyof typeof ROUTES], { code: 1 }>} Refusal */

/**
 * Sends a request and reads the envelope of the response. A refused token is thrown, since every caller would do the same
 * about it: back to the log-in.
 * @template {keyof typeof ROUTES} N
 * @param {N} name
 * @param {Sent<N>} body
 * @param {string} [sessionId] for a path that has one
 * @returns {Promise<Outcome<N>>}
 */
async function call(name, body, sessionId = "") {
  const [method, template] = ROUTES[name];
  const path = template.replace("{session_id}", encodeURIComponent(sessionId));
  /** @type {Record<string, string>} */
  const headers = {};
  if (body) headers["content-type"] = "application/json";
  if (token) headers.authorization = `Bearer ${token}`;
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) }).catch(() => undefined);
  if (!response) return { code: 0, message: "The service cannot be reached. Try again later." };
  if (response.status === 401 && name !== "login") throw new LoggedOut();
  const answer = await response.json().catch(() => undefined);
  return typeof answer?.code === "number" ? answer : { code: 0, message: "The service is busy. Try again later." };
}

/**
 * The message to show for an error. It depends on the code; `message` is for developers.
 * @param {Refusal} answer
 */
function explain(answer) {
  switch (answer.code) {
    case 0: return answer.message;
    case 40101: return "The userid or the password is wrong.";
    case 40301: return "This is not your password.";
    case 40302: return "This account is disabled.";
    case 40901: return "This userid is taken. Choose another one.";
    case 42901: return `Too many attempts. Try again in ${inWords(answer.data.retry_after)}.`;
    case 50301: return "The service is not available. Try again later.";
    default: return `Something went wrong (${answer.code}).`;
  }
}

// --- The page ---------------------------------------------------------------------------------------------------------

/**
 * @template {HTMLElement} E
 * @param {string} id
 * @param {new () => E} kind
 * @returns {E}
 */
function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`);
  return found;
}

const registration = element("registration", HTMLDetailsElement);
const sessions = element("sessions", HTMLUListElement);
const forms = {
  register: element("register", HTMLFormElement),
  login: element("login", HTMLFormElement),
  profile: element("profile", HTMLFormElement),
  password: element("password", HTMLFormElement),
  deletion: element("deletion", HTMLFormElement),
};

/** @param {string} text stays visible, and is announced by screen readers */
function setStatus(text) {
  element("status", HTMLElement).textContent = text;
}

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
  element("member-since", HTMLElement).textContent = user ? when(user.reg_time) : "";
  for (const form of [forms.password, forms.deletion]) form.userid.defaultValue = user?.userid ?? "";
  for (const input of forms.profile.querySelectorAll("input")) {
    input.defaultValue = user?.[/** @type {keyof Sent<"updateMe">} */ (input.name)] ?? "";
  }
}

/**
 * The values in a form, without empty fields.
 * @param {HTMLFormElement} form
 */
function filledIn(form) {
  const fields = [...new FormData(form)].filter(([, value]) => value !== "");
  return Object.fromEntries(fields.map(([name, value]) => [name, String(value)]));
}

/**
 * Shows a problem next to the form's button, and errors at the fields. The first of these gets the focus.
 * @param {HTMLFormElement} form
 * @param {string} problem
 * @param {Record<string, string>} errors by name of the field
 */
function mark(form, problem, errors) {
  const alert = form.querySelector("[role=alert]");
  if (alert) alert.textContent = problem;
  for (const input of /** @type {NodeListOf<HTMLInputElement>} */ (form.querySelectorAll("input[aria-describedby]"))) {
    const error = errors[input.name] ?? "";
    input.setAttribute("aria-invalid", String(error !== ""));
    element(`${input.id}-error`, HTMLElement).textContent = error;
  }
  /** @type {HTMLElement | null} */ (form.querySelector("input[aria-invalid=true]"))?.focus();
}

/**
 * Shows in a form why it was rejected.
 * @param {HTMLFormElement} form
 * @param {Refusal} answer
 */
function refuse(form, answer) {
  /** @type {Record<string, string>} */
  const errors = {};
  if (answer.code === 42201) for (const { field, message } of answer.data.errors) errors[field] = `This ${message}.`;
  if (answer.code === 40901) errors.userid = explain(answer);
  if (answer.code === 40301) errors[form === forms.password ? "current_password" : "password"] = explain(answer);
  mark(form, Object.keys(errors).length ? "Please correct the marked fields." : explain(answer), errors);
}

/**
 * Clears earlier messages and runs `action`, one at a time. A refused token leads back to the log-in.
 * @param {() => Promise<void>} action
 */
async function attempt(action) {
  const main = element("main", HTMLElement);
  if (main.ariaBusy === "true") return;
  main.ariaBusy = "true";
  setStatus("");
  for (const form of Object.values(forms)) mark(form, "", {});
  try {
    await action();
  } catch (error) {
    if (!(error instanceof LoggedOut)) throw error;
    leave("Your session has ended. Please log in again.");
  } finally {
    main.ariaBusy = "false";
  }
}

/**
 * @param {keyof typeof forms} name
 * @param {(form: HTMLFormElement) => Promise<void>} action
 */
function onSubmit(name, action) {
  const form = forms[name];
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void attempt(() => action(form));
  });
}

/**
 * @param {"refresh" | "logout" | "end-others"} id
 * @param {() => Promise<void>} action
 */
function onClick(id, action) {
  element(id, HTMLButtonElement).addEventListener("click", () => void attempt(action));
}

/**
 * Logs in with the values in the form.
 * @param {string} status message to show after success
 */
async function logIn(status) {
  const { userid = "", password = "" } = filledIn(forms.login);
  const answer = await call("login", { userid, password });
  if (answer.code !== 1) return refuse(forms.login, answer);
  token = answer.data.access_token;
  show(answer.data.user_info, status);
  await readSessions();
}

registration.addEventListener("toggle", () => {
  if (registration.open) element("register-userid", HTMLInputElement).focus();
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
  token = undefined;
  show(undefined, why);
}

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

onSubmit("deletion", async (form) => {
  const { password = "" } = filledIn(form);
  if (!password) return mark(form, "Please correct the marked fields.", { password: "This is required." });
  const userid = form.userid.value;
  if (!(await confirmed(`Delete the account ${userid}? Nobody can restore it.`, "Delete for good"))) return;
  const answer = await call("deleteUser", { password });
  if (answer.code !== 1) return refuse(form, answer);
  leave(`The account ${userid} is deleted.`);
});

// --- Sessions ---------------------------------------------------------------------------------------------------------

/** Reads and shows the sessions; false if that failed. */
async function readSessions() {
  const answer = await call("listSessions", undefined);
  if (answer.code === 1) listSessions(answer.data.sessions, "");
  else listSessions([], explain(answer));
  return answer.code === 1;
}

/**
 * @param {Session[]} all
 * @param {string} problem
 */
function listSessions(all, problem) {
  sessions.replaceChildren(...[...all].sort((a, b) => Number(b.current) - Number(a.current)).map(entry));
  element("sessions-problem", HTMLElement).textContent = problem;
}

/** @param {Session} session */
function entry(session) {
  const device = nameOf(session.user_agent);
  const from = session.address ? ` from ${session.address}` : "";
  // The service notes the last use every 15 minutes.
  const used = Date.parse(session.last_seen) > Date.now() - 900_000 ? "in the last 15 minutes" : when(session.last_seen);
  const details = `Logged in ${when(session.login_time)}${from}. Last used ${used}. Expires ${when(session.expires_at)}.`;
  const button = make("button", "Log out", "quiet");
  button.ariaLabel = `Log out ${device}`;
  const item = document.createElement("li");
  item.append(make("bdi", device), make("p", details, "hint"), session.current ? make("strong", "This device") : button);
  // The second click of a double click would hit the next session, which has moved up.
  button.addEventListener("click", ({ detail }) => detail < 2 && void attempt(() => end(session, item)));
  return item;
}

/**
 * @param {Session} session
 * @param {HTMLLIElement} item
 */
async function end(session, item) {
  const answer = await call("endSession", undefined, session.session_id);
  // 40402: it has ended in the meantime.
  if (answer.code !== 1 && answer.code !== 40402) return setStatus(explain(answer));
  setStatus(`${nameOf(session.user_agent)} is logged out.`);
  const neighbour = item.nextElementSibling ?? item.previousElementSibling;
  item.remove();
  // Without this, the focus would be lost with the button.
  (neighbour?.querySelector("button") ?? element("devices-summary", HTMLElement)).focus();
}

onClick("end-others", async () => {
  if (!(await confirmed("Log out all other devices? This one stays logged in.", "Log out all others"))) return;
  let answer;
  do answer = await call("endOtherSessions", undefined);
  while (answer.code === 1 && answer.data.more);
  await readSessions();
  setStatus(answer.code === 1 ? "All other devices are logged out." : explain(answer));
  element("devices-summary", HTMLElement).focus();
});

/**
 * Asks before something that cannot be undone. Escape means no. The browser returns the focus afterwards.
 * @param {string} question
 * @param {string} yes text of the button
 */
async function confirmed(question, yes) {
  const dialog = element("confirmation", HTMLDialogElement);
  element("confirmation-question", HTMLElement).textContent = question;
  element("confirmation-yes", HTMLElement).textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "yes";
}

// --- Words ------------------------------------------------------------------------------------------------------------

// Parts of user agents, and what people call them. The first match counts: Edge also contains "Chrome", Chrome "Safari".
const BROWSERS = { MicroMessenger: "WeChat", Edg: "Edge", OPR: "Opera", SamsungBrowser: "Samsung Internet",
  Firefox: "Firefox", FxiOS: "Firefox", CriOS: "Chrome", Chrome: "Chrome", Safari: "Safari" };
const SYSTEMS = { iPhone: "iPhone", iPad: "iPad", Android: "Android", Windows: "Windows", CrOS: "ChromeOS",
  "Mac OS X": "Mac", Linux: "Linux" };

/**
 * A device in words. A client can send any user agent, so this proves nothing.
 * @param {string | null} userAgent
 */
function nameOf(userAgent) {
  if (!userAgent) return "Unknown device";
  const found = [BROWSERS, SYSTEMS].map((names) => Object.entries(names).find(([part]) => userAgent.includes(part))?.[1]);
  return found.every(Boolean) ? found.join(" on ") : userAgent.replace(/\p{C}/gu, "").replace(/(.{60}).+/u, "$1…");
}

const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const DISTANCE = new Intl.RelativeTimeFormat("en-GB");

/**
 * A time in words: relative within a day, otherwise with the date.
 * @param {string} time
 */
function when(time) {
  const minutes = Math.trunc((Date.parse(time) - Date.now()) / 60_000);
  if (Math.abs(minutes) >= 24 * 60) return `on ${DATE.format(new Date(time))}`;
  if (Math.abs(minutes) >= 60) return DISTANCE.format(Math.trunc(minutes / 60), "hour");
  return minutes ? DISTANCE.format(minutes, "minute") : "just now";
}

/** @param {number} seconds */
function inWords(seconds) {
  const [count, unit] = seconds < 60 ? [seconds, "second"] : [Math.ceil(seconds / 60), "minute"];
  return new Intl.NumberFormat("en-GB", { style: "unit", unit, unitDisplay: "long" }).format(count);
}

/**
 * An element with text, never HTML.
 * @param {string} kind
 * @param {string} textContent
 */
function make(kind, textContent, className = "") {
  return Object.assign(document.createElement(kind), { textContent, className });
}

export {};
