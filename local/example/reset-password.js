// @ts-check
// The page of the link that sets a new password.

import { call } from "./api.js";
import { followLink } from "./link.js";
import { filledIn } from "./page.js";

followLink((token, form) => {
  const { new_password = "" } = filledIn(form);
  return call("resetPassword", { token, new_password });
}, "Your new password is set. All devices are logged out.");
