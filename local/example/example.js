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
 * The access token. In memory only: no other page and no later visitor of this browser finds it. A reload forgets it.
 * @type {string | undefined}
 */
let token;

/** Something that is no answer of the service: no connection, or an answer of a gateway in between. */
class NoAnswer extends Error {}

/**
 * Sends a request and reads the answer's envelope.
 * @template {keyof typeof ROUTES} N
 * @param {N} name
 * @param {Sent<N>} body
 * @returns {Promise<Answer<N>>}
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
    throw new NoAnswer("The service cannot be reached. Try again later.");
  }
  if (typeof answer.code !== "number") throw new NoAnswer("The service is busy. Try again later.");
  return answer;
}

/**
 * What a person is told of an answer that is no success. The code decides; `message` is for developers.
 * @param {Exclude<{ [N in keyof typeof ROUTES]: Answer<N> }[keyof typeof ROUTES], { code: 1 }>} answer
 */
function explain(answer) {
  switch (answer.code) {
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
 * @param {string} focus
 */
function show(user, focus) {
  guest.hidden = user !== undefined;
  member.hidden = user === undefined;
  memberProblem.textContent = "";
  // What was typed, passwords above all, stays on no hidden part.
  for (const form of Object.values(forms)) {
    form.reset();
    mark(form, "", []);
  }
  element("user", HTMLDListElement).replaceChildren();
  if (user) element("member-heading", HTMLElement).textContent = `Logged in as ${user.user_name}`;
  element(focus, HTMLElement).focus();
}

/** @param {User} user */
function list(user) {
  const rows = Object.entries(user).flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const description = document.createElement("dd");
    term.textContent = name;
    description.textContent = value ?? "–";
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
 * Shows a problem above the form and, where the service names fields, at each of them.
 * @param {HTMLFormElement} form
 * @param {string} problem
 * @param {{ field: string, message: string }[]} errors
 */
function mark(form, problem, errors) {
  const alert = form.querySelector("[role=alert]");
  if (alert) alert.textContent = problem;
  for (const input of form.querySelectorAll("input")) {
    const error = errors.find(({ field }) => field === input.name);
    input.setAttribute("aria-invalid", String(error !== undefined));
    element(`${input.id}-error`, HTMLElement).textContent = error ? `This ${error.message}.` : "";
  }
  const first = form.querySelector("input[aria-invalid=true]");
  if (first instanceof HTMLElement) first.focus();
}

/**
 * Runs `action`, one at a time, and shows what keeps it from its end.
 * @param {(problem: string) => void} complain
 * @param {() => Promise<void>} action
 */
async function attempt(complain, action) {
  if (document.body.ariaBusy === "true") return;
  document.body.ariaBusy = "true";
  complain("");
  tell("");
  try {
    await action();
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    complain(error.message);
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
    void attempt((problem) => mark(form, problem, []), () => action(form));
  });
}

/**
 * @param {"me" | "logout"} id
 * @param {() => Promise<void>} action
 */
function onClick(id, action) {
  const complain = (/** @type {string} */ problem) => { memberProblem.textContent = problem; };
  element(id, HTMLButtonElement).addEventListener("click", () => void attempt(complain, action));
}

onSubmit("register", async (form) => {
  const { userid = "", password = "", ...rest } = filledIn(form);
  const answer = await call("register", { userid, password, ...rest });
  if (answer.code !== 1) {
    return mark(form, explain(answer), answer.code === 42201 ? answer.data.errors : []);
  }
  form.reset();
  tell(`Registered as ${answer.data.user_info.userid}. Now log in.`);
  element("login-userid", HTMLInputElement).value = answer.data.user_info.userid;
  element("login-password", HTMLInputElement).focus();
});

onSubmit("login", async (form) => {
  const { userid = "", password = "" } = filledIn(form);
  const answer = await call("login", { userid, password });
  if (answer.code !== 1) {
    return mark(form, explain(answer), answer.code === 42201 ? answer.data.errors : []);
  }
  token = answer.data.access_token;
  tell("You are logged in.");
  show(answer.data.user_info, "member-heading");
});

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
  tell(why);
  show(undefined, "login-heading");
}

export {};
