// @ts-check
// Where the user is logged in.

import { call, explain } from "./api.js";
import { attempt, confirmed, element, make, onClick, setStatus } from "./page.js";
import { nameOf, when } from "./words.js";

/** @typedef {import("./api.js").Session} Session */

const sessions = element("sessions", HTMLUListElement);

/** Reads and shows the sessions; false if that failed. */
export async function readSessions() {
  const answer = await call("listSessions", undefined);
  if (answer.code === 1) listSessions(answer.data.sessions, "");
  else listSessions([], explain(answer));
  return answer.code === 1;
}

/**
 * @param {Session[]} all
 * @param {string} problem
 */
export function listSessions(all, problem) {
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
