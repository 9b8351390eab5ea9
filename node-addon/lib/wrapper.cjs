'use strict';

// Programs that only start another one, such as npm and cross-env. They are no servers themselves, whatever they listen on: the
// program that they start takes the worker's place.

const path = require('node:path');

const RUNNERS = ['npm', 'npx', 'npm-cli', 'npx-cli', 'yarn', 'yarnpkg', 'pnpm', 'pnpx', 'corepack'];

/** Commands, as their links in node_modules/.bin or in a folder of global commands are called. */
const COMMANDS = ['c8', 'concurrently', 'conc', 'cross-env', 'cross-env-shell', 'dotenv', 'dotenvx', 'env-cmd', 'nest', 'nf',
  'nodemon', 'npm-run-all', 'nyc', 'per-env', 'run-p', 'run-s', 'run-script-os', 'ts-node-dev', 'tsnd', 'tsx', 'turbo', 'wireit'];
const PACKAGES = ['c8', 'concurrently', 'corepack', 'cross-env', 'dotenv', 'dotenv-cli', '@dotenvx/dotenvx', 'env-cmd',
  '@nestjs/cli', 'foreman', 'nodemon', 'npm', 'npm-run-all', 'npm-run-all2', 'nyc', 'per-env', 'pnpm', 'run-script-os', 'ts-node-dev',
  'tsx', 'turbo', 'wireit', 'yarn'];

/** Whether the script that a Node runs is one of them. */
function isWrapper(script) {
  if (!script) return false;
  const name = path.basename(script, path.extname(script));
  if (RUNNERS.includes(name)) return true;
  const isCommand = path.extname(script) === '' || script.includes('/.bin/');
  if (isCommand && COMMANDS.includes(name)) return true;
  if (!script.includes('node_modules/')) return false;
  const [, found] = /(?:^|.*\/)node_modules\/((?:@[^/]+\/)?[^/]+)\//s.exec(script) ?? [];
  return PACKAGES.includes(found);
}

module.exports = { isWrapper };
