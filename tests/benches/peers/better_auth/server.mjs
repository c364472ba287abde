// better-auth as its documentation sets it up, with a process for each processor. `node server.mjs migrate` creates the tables.

import cluster from "node:cluster";
import { createServer } from "node:http";
import { availableParallelism } from "node:os";
import process from "node:process";

import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import pg from "pg";

const { DATABASE_URL, PORT, SECRET_KEY } = process.env;

const options = () => ({
  database: new pg.Pool({ connectionString: DATABASE_URL }),
  secret: SECRET_KEY,
  baseURL: `http://127.0.0.1:${PORT}`,
  emailAndPassword: { enabled: true },
  // By default, three log-ins in ten seconds from one address.
  rateLimit: { enabled: false },
});

if (process.argv[2] === "migrate") {
  const { runMigrations } = await getMigrations(options());
  await runMigrations();
  process.exit();
} else if (cluster.isPrimary) {
  for (let worker = 0; worker < availableParallelism(); worker += 1) cluster.fork();
} else {
  createServer(toNodeHandler(betterAuth(options()))).listen(Number(PORT), "127.0.0.1");
}
