// The mails that `local` prints instead of sending them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";

/**
 * The mails to an address.
 * @param {string} output the file with the output of `local`
 */
export function mailsTo(output, /** @type {string} */ address) {
  const mails = readFileSync(output, "utf8").matchAll(/^Mail to (\S+): (.+)\n\n((?: {2}.*\n|\n)+)/gm);
  return [...mails].filter(([, to]) => to === address).map(([, , subject = "", text = ""]) => ({ subject, text }));
}

/**
 * Waits for the `nth` mail to an address, which has this subject.
 * @param {string} output
 * @param {string} address
 * @param {number} nth from 1
 * @param {string} subject
 */
export async function mailTo(output, address, nth, subject) {
  // `local` looks once a second what is to be sent. A busy machine may take longer.
  for (let waited = 0; waited < 120_000; waited += 100) {
    const mail = mailsTo(output, address)[nth - 1];
    if (mail) {
      assert.equal(mail.subject, subject);
      const link = mail.text.match(/^ {2}(https?:\S+)$/m)?.[1] ?? "";
      return { ...mail, link, token: link.split("#token=")[1] ?? "" };
    }
    await setTimeout(100);
  }
  return assert.fail(`no mail ${nth} to ${address}`);
}
