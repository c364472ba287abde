// @ts-check
// A client of the account service: register, log in, who am I, log out. Its types are generated from the OpenAPI
// description (see docs/clients.md), so that a misspelt member or an unhandled response does not compile.

/** @typedef {import("./people").operations} Operations */
/** @typedef {import("./people").components["schemas"]["User"]} User */
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
  me: ["GET", "/auth/me"],
  logout: ["POST", "/auth/logout"],
});

/**
 * The access token. In memory only: neither another page nor a later user of this browser can find it. A reload loses it;
 * the page explains what a real application does about that.
 * @type {string | undefined}
 */
let token;

/** @typedef {{ code: 0, message: string }} NoAnswer no connection, or a response of a gateway */

/**
 * Sends a request and reads the envelope of the response.
 * @template {keyof typeof ROUTES} N
 * @param {N} name
 * @param {Sent<N>} body
 * @returns {Promise<Answer<N> | NoAnswer>}
 */
async function call(name, body) {
  const [method, path] = ROUTES[name];
  /** @type {Record<string, string>} */
  const headers = {};
  if (body) headers["content-type"] = "application/json";
  if (token) headers.authorization = `Bearer ${token}`;
  let answer;
  try {
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    answer = await response.json();
  } catch {
    return { code: 0, message: "The service cannot be reached. Try again later." };
  }
  return typeof answer.code === "number" ? answer : { code: 0, message: "The service is busy. Try again later." };
}

/** @typedef {Exclude<{ [N in keyof typeof ROUTES]: Answer<N> }[keyof typeof ROUTES] | NoAnswer, { code: 1 }>} Refusal */

/**
 * The message to show for an error. It depends on the code; `message` is for developers.
 * @param {Refusal} answer
 */
function explain(answer) {
  switch (answer.code) {
    case 0: return answer.message;
    case 40101: return "The userid or the password is wrong.";
    case 40102:
    case 40103: return "You are logged out. Log in again.";
    case 40901: return "This userid is taken. Choose another one.";
    case 42201: return "Please correct the marked fields.";
    case 42901: return `Too many attempts. Try again in ${answer.data.retry_after} seconds.`;
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

const guest = element("guest", HTMLElement);
const member = element("member", HTMLElement);
const memberProblem = element("member-problem", HTMLElement);
const registration = element("registration", HTMLDetailsElement);
const forms = {
  register: element("register", HTMLFormElement),
  login: element("login", HTMLFormElement),
};

/** @param {string} text */
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
  guest.hidden = user !== undefined;
  member.hidden = user === undefined;
  memberProblem.textContent = "";
  // Nothing that was typed, above all no password, stays in a hidden form.
  for (const form of Object.values(forms)) {
    form.reset();
    mark(form, "", {});
  }
  registration.open = false;
  element("user", HTMLDListElement).replaceChildren();
  if (user) element("member-heading", HTMLElement).textContent = `Logged in as ${user.user_name}`;
  element(user ? "member-heading" : "login-heading", HTMLElement).focus();
}

/** @param {User} user */
function list(user) {
  const rows = Object.entries(user).flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const description = document.createElement("dd");
    term.textContent = name;
    description.textContent = String(value ?? "") || "–";
    return [term, description];
  });
  element("user", HTMLDListElement).replaceChildren(...rows);
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
  for (const input of form.querySelectorAll("input")) {
    const error = errors[input.name] ?? "";
    input.setAttribute("aria-invalid", String(error !== ""));
    element(`${input.id}-error`, HTMLElement).textContent = error;
  }
  const first = form.querySelector("input[aria-invalid=true]");
  if (first instanceof HTMLElement) first.focus();
}

/**
 * Shows in a form why it was rejected.
 * @param {HTMLFormElement} form
 * @param {Refusal} answer
 */
function refuse(form, answer) {
  if (answer.code === 42201) {
    const errors = answer.data.errors.map(({ field, message }) => [field, `This ${message}.`]);
    mark(form, explain(answer), Object.fromEntries(errors));
  } else if (answer.code === 40901) {
    mark(form, "Please correct the marked fields.", { userid: explain(answer) });
  } else {
    mark(form, explain(answer), {});
  }
}

/**
 * Clears earlier messages and runs `action`, one at a time.
 * @param {() => Promise<void>} action
 */
async function attempt(action) {
  if (document.body.ariaBusy === "true") return;
  document.body.ariaBusy = "true";
  setStatus("");
  memberProblem.textContent = "";
  for (const form of Object.values(forms)) mark(form, "", {});
  try {
    await action();
  } finally {
    document.body.ariaBusy = "false";
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
 * @param {"me" | "logout"} id
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

onClick("me", async () => {
  const answer = await call("me", undefined);
  if (answer.code === 1) {
    list(answer.data.user_info);
  } else if (answer.code === 40103) {
    leave(explain(answer));
  } else {
    memberProblem.textContent = explain(answer);
  }
});

onClick("logout", async () => {
  const answer = await call("logout", undefined);
  // If the token is no longer live, the user is logged out as well.
  if (answer.code === 1 || answer.code === 40103) {
    leave("You are logged out.");
  } else {
    memberProblem.textContent = explain(answer);
  }
});

/** @param {string} why */
function leave(why) {
  token = undefined;
  show(undefined, why);
}

export {};
