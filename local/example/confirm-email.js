// @ts-check
// The page of the link that confirms an e-mail address.

import { call } from "./api.js";
import { followLink } from "./link.js";

followLink((token) => call("confirmEmail", { token }), "Your e-mail address is confirmed.");
