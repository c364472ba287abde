// @ts-check
// Devices and times in words.

// Parts of user agents, and what people call them. The first match counts: Edge also contains "Chrome", Chrome "Safari".
const BROWSERS = { MicroMessenger: "WeChat", Edg: "Edge", OPR: "Opera", SamsungBrowser: "Samsung Internet",
  Firefox: "Firefox", FxiOS: "Firefox", CriOS: "Chrome", Chrome: "Chrome", Safari: "Safari" };
const SYSTEMS = { iPhone: "iPhone", iPad: "iPad", Android: "Android", Windows: "Windows", CrOS: "ChromeOS",
  "Mac OS X": "Mac", Linux: "Linux" };

/**
 * A device in words. A client can send any user agent, so this proves nothing.
 * @param {string | null} userAgent
 */
export function nameOf(userAgent) {
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
export function when(time) {
  const minutes = Math.trunc((Date.parse(time) - Date.now()) / 60_000);
  if (Math.abs(minutes) >= 24 * 60) return `on ${DATE.format(new Date(time))}`;
  if (Math.abs(minutes) >= 60) return DISTANCE.format(Math.trunc(minutes / 60), "hour");
  return minutes ? DISTANCE.format(minutes, "minute") : "just now";
}

/** @param {number} seconds */
export function inWords(seconds) {
  const [count, unit] = seconds < 60 ? [seconds, "second"] : [Math.ceil(seconds / 60), "minute"];
  return new Intl.NumberFormat("en-GB", { style: "unit", unit, unitDisplay: "long" }).format(count);
}
