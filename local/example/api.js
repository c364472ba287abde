// @ts-check
// The API of the account service. Its types are generated from the OpenAPI description (see docs/clients.md), so that a
// misspelt member or an unhandled response does not compile.

import { inWords } from "./words.js";

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
  forgotPassword: ["POST", "/auth/forgot"],
  resetPassword: ["POST", "/auth/reset"],
  changeEmail: ["POST", "/auth/email"],
  confirmEmail: ["POST", "/auth/email/confirm"],
});

/**
 * The access token. In memory only: neither another page nor a later user of this browser can find it. A reload loses it;
 * the page explains what a real application does about that.
 * @type {string | undefined}
 */
let token;

/** @param {string | undefined} value the access token from now on */
export function setToken(value) {
  token = value;
}

/** The service refused the token: it has expired, or its session has ended. */
export class LoggedOut extends Error {}

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
export async function call(name, body, sessionId = "") {
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
export function explain(answer) {
  switch (answer.code) {
    case 0: return answer.message;
    case 40101: return "The userid or the password is wrong.";
    case 40301: return "This is not your password.";
    case 40302: return "This account is disabled.";
    case 40901: return "This userid is taken. Choose another one.";
    case 41001: return "This link is not valid: it was used already, is too old or incomplete, or the account has changed since.";
    case 42901: return `Too many attempts. Try again in ${inWords(answer.data.retry_after)}.`;
    case 50301: return "The service is not available. Try again later.";
    default: return `Something went wrong (${answer.code}).`;
  }
}
