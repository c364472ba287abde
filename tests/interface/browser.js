// The pages in a real browser, used as a person would.
//
//     node browser.js http://127.0.0.1:3000 DIRECTORY-FOR-SCREENSHOTS OUTPUT-OF-LOCAL

import { browser } from "./browser/harness.js";

// One after the other.
await import("./browser/docs.js");
await import("./browser/example.js");
await import("./browser/account.js");
await import("./browser/links.js");
await import("./browser/hostile_pages.js");
await browser.close();
