// @ts-check
// A client of the account service: register, log in, who am I, log out. Its types are generated from the service's
// description (docs/clients.md says how), so that a misspelt member or an answer that is not handled does not compile.

/** @typedef {import("./people").operations} Operations */
/** @typedef {import("./people").components["schemas"]["User"]} User */
/** @typedef {keyof Operations} Name */

/**
 * Every answer of an operation in the envelope. Which one it is, `code` says.
 * @template {Name} N
 * @typedef {Extract<
 *   { [S in keyof Operations[N]["responses"]]:
 *       Operations[N]["responses"][S] extends { content: { "application/json": infer A } } ? A : never
 *   }[keyof Operations[N]["responses"]],
 *   { code: number }
 * >} Answer
 */

/**
 * What an operation is sent, if anything.
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
 * The access token. In memory only: no other page and no later visitor of this browser finds it. A reload forgets it; the
 * page says what a real application does about that.
 * @type {string | undefined}
 */
let token;

/** @typedef {{ code: 0, message: string }} NoAnswer no connection, or an answer of a gateway in between */

/**
 * Sends a request and reads the answer's envelope.
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
 * What a person is told of an answer that is no success. The code decides; `message` is for developers.
 * @param {Refusal} answer
 */
function explain(answer) {
  switch (answer.code) {
    case 0: return answer.message;
    case 40101: return "The userid or the password is wrong.";
    case 40102:
    case 40103: return "You are logged out. Log in again.";
    case 40901: return "This userid is taken. Choose another one.";
    case 42201: return "Please correct what is marked.";
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
function tell(text) {
  element("status", HTMLElement).textContent = text;
}

/**
 * Shows the part for guests or the one for members, and tells people who do not see it by moving the focus there.
 * @param {User | undefined} user
 * @param {string} status
 */
function show(user, status) {
  tell(status);
  guest.hidden = user !== undefined;
  member.hidden = user === undefined;
  memberProblem.textContent = "";
  // What was typed, passwords above all, stays on no hidden part.
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
 * What is in a form, without the fields that are left empty.
 * @param {HTMLFormElement} form
 */
function filledIn(form) {
  const fields = [...new FormData(form)].filter(([, value]) => value !== "");
  return Object.fromEntries(fields.map(([name, value]) => [name, String(value)]));
}

/**
 * Shows a problem beside the form's button, and at fields what is wrong with them. The first of those gets the focus.
 * @param {HTMLFormElement} form
 * @param {string} problem
 * @param {Record<string, string>} errors by the field's name
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
 * Shows in a form why it was refused.
 * @param {HTMLFormElement} form
 * @param {Refusal} answer
 */
function refuse(form, answer) {
  if (answer.code === 42201) {
    const errors = answer.data.errors.map(({ field, message }) => [field, `This ${message}.`]);
    mark(form, explain(answer), Object.fromEntries(errors));
  } else if (answer.code === 40901) {
    mark(form, "Please correct what is marked.", { userid: explain(answer) });
  } else {
    mark(form, explain(answer), {});
  }
}

/**
 * Runs `action`, one at a time, without what was said before.
 * @param {() => Promise<void>} action
 */
async function attempt(action) {
  if (document.body.ariaBusy === "true") return;
  document.body.ariaBusy = "true";
  tell("");
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
 * Sends what is in the form for a log-in.
 * @param {string} status what to tell when it has worked
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
  // Whoever has just chosen a password is not asked for it again, unless the log-in fails: then its form is filled in.
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
  // A token that is dead already is what was wanted.
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
