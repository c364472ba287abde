// @ts-check
// What the pages of the links in mails share.

import { explain } from "./api.js";
import { element, onSubmit, refuse, setStatus } from "./page.js";

/** @typedef {import("./api.js").Outcome<"resetPassword"> | import("./api.js").Outcome<"confirmEmail">} Outcome */
/** @typedef {"with-link" | "without-link" | "done" | "refused"} Part */

/** The token of the link. In memory only, like the access token. */
let token = "";

/** @param {Part} id the part of the page to show, instead of the others */
function show(id) {
  for (const part of ["with-link", "without-link", "done", "refused"]) element(part, HTMLElement).hidden = part !== id;
  element("heading", HTMLElement).hidden = id === "done" || id === "refused";
  if (id === "without-link") return;
  // What to do next. The button that had the focus may be hidden now.
  /** @type {HTMLElement | null} */ (document.querySelector(`#${id} :is(input, a)`))?.focus();
}

/** Takes the token out of the fragment, so that neither the address bar nor the history has it. */
function read() {
  token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
  history.replaceState(null, "", location.pathname);
  setStatus("");
  show(token ? "with-link" : "without-link");
}

/**
 * Sends the token when the user submits the form, and never before: mail scanners open links, and some run scripts.
 * @param {(token: string, form: HTMLFormElement) => Promise<Outcome>} send
 * @param {string} done what to say after success
 */
export function followLink(send, done) {
  onSubmit("with-link", async (form) => {
    const answer = await send(token, form);
    if (answer.code !== 1 && answer.code !== 41001) return refuse(form, answer);
    form.reset();
    token = "";
    show(answer.code === 1 ? "done" : "refused");
    setStatus(answer.code === 1 ? done : explain(answer));
  });
  // Another link, opened in the same tab, loads nothing.
  addEventListener("hashchange", read);
  read();
}
