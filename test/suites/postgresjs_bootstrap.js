// Stands in for what sets up the database of postgres.js's tests, which is there already. Programs that tests run talk to
// Postgres itself.

import { spawnSync } from 'child_process'

export function exec(command, args) {
  const env = { ...process.env, PGPORT: process.env.SUITE_POSTGRES_PORT }
  const { stderr } = spawnSync(command, args, { stdio: 'pipe', encoding: 'utf8', env })
  if (stderr && !stderr.includes('WARNING:') && !stderr.includes('NOTICE:'))
    throw new Error(stderr)
}
