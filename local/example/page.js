// @ts-check
// What the pages share: finding elements, forms with errors at their fields, one action at a time.

import { LoggedOut, explain } from "./api.js";

/** @typedef {import("./api.js").Refusal} Refusal */

/**
 * @template {HTMLElement} E
 * @param {string} id
 * @param {new () => E} kind
 * @returns {E}
 */
export function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`);
  return found;
}

/** @param {string} text stays visible, and is announced by screen readers */
export function setStatus(text) {
  element("status", HTMLElement).textContent = text;
}

/**
 * The values in a form, without empty fields.
 * @param {HTMLFormElement} form
 */
export function filledIn(form) {
  const fields = [...new FormData(form)].filter(([, value]) => value !== "");
  return Object.fromEntries(fields.map(([name, value]) => [name, String(value)]));
}

/**
 * Shows a problem next to the form's button, and errors at the fields. The first of these gets the focus.
 * @param {HTMLFormElement} form
 * @param {string} problem
 * @param {Record<string, string>} errors by name of the field
 */
export function mark(form, problem, errors) {
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
export function refuse(form, answer) {
  /** @type {Record<string, string>} */
  const errors = {};
  if (answer.code === 42201) for (const { field, message } of answer.data.errors) errors[field] = `This ${message}.`;
  if (answer.code === 40901) errors.userid = explain(answer);
  if (answer.code === 40301) errors[form.current_password ? "current_password" : "password"] = explain(answer);
  mark(form, Object.keys(errors).length ? "Please correct the marked fields." : explain(answer), errors);
}

/** What to do when the service has refused the token. */
let leave = () => {};

/** @param {() => void} action what to do when the service has refused the token */
export function onLoggedOut(action) {
  leave = action;
}

/**
 * Clears earlier messages and runs `action`, one at a time.
 * @param {() => Promise<void>} action
 */
export async function attempt(action) {
  const main = element("main", HTMLElement);
  if (main.ariaBusy === "true") return;
  main.ariaBusy = "true";
  setStatus("");
  for (const form of document.forms) mark(form, "", {});
  try {
    await action();
  } catch (error) {
    if (!(error instanceof LoggedOut)) throw error;
    leave();
  } finally {
    main.ariaBusy = "false";
  }
}

/**
 * @param {string} id of a form
 * @param {(form: HTMLFormElement) => Promise<void>} action
 */
export function onSubmit(id, action) {
  const form = element(id, HTMLFormElement);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void attempt(() => action(form));
  });
}

/**
 * @param {string} id of a button
 * @param {() => Promise<void>} action
 */
export function onClick(id, action) {
  element(id, HTMLButtonElement).addEventListener("click", () => void attempt(action));
}

/**
 * Asks before something that cannot be undone. Escape means no. The browser returns the focus afterwards.
 * @param {string} question
 * @param {string} yes text of the button
 */
export async function confirmed(question, yes) {
  const dialog = element("confirmation", HTMLDialogElement);
  element("confirmation-question", HTMLElement).textContent = question;
  element("confirmation-yes", HTMLElement).textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "yes";
}

/**
 * An element with text, never HTML.
 * @param {string} kind
 * @param {string} textContent
 */
export function make(kind, textContent, className = "") {
  return Object.assign(document.createElement(kind), { textContent, className });
}

/** What to say in addition about a mail: `local` does not send it. */
export const PRINTED = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname)
  ? " Here, the program “local” prints it on its standard output."
  : "";
