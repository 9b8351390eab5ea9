'use strict';

// Programs that only start another one, such as npm and cross-env. They are no servers themselves, whatever they listen on: the
// program that they start takes the worker's place.

const fs = require('node:fs');
const path = require('node:path');

const RUNNERS = new Set(['npm', 'npx', 'npm-cli', 'npx-cli', 'yarn', 'yarnpkg', 'pnpm', 'pnpx', 'corepack']);

/** Commands, as their links in node_modules/.bin or in a folder of global commands are called. */
const COMMANDS = new Set(['c8', 'concurrently', 'conc', 'cross-env', 'cross-env-shell', 'dotenv', 'dotenvx', 'env-cmd', 'nest', 'nf',
  'nodemon', 'npm-run-all', 'nyc', 'per-env', 'run-p', 'run-s', 'run-script-os', 'ts-node-dev', 'tsnd', 'tsx', 'turbo', 'wireit']);
const PACKAGES = new Set(['c8', 'concurrently', 'corepack', 'cross-env', 'dotenv', 'dotenv-cli', '@dotenvx/dotenvx', 'env-cmd',
  '@nestjs/cli', 'foreman', 'nodemon', 'npm', 'npm-run-all', 'npm-run-all2', 'nyc', 'per-env', 'pnpm', 'run-script-os', 'ts-node-dev',
  'tsx', 'turbo', 'wireit', 'yarn']);

const SHELL = /(?:^|\/)(?:a|ba|da|k|z)?sh$/;

/** Whether the script that a Node runs is one of them. */
function isWrapper(script) {
  if (!script) return false;
  const name = path.basename(script, path.extname(script));
  if (RUNNERS.has(name)) return true;
  const isCommand = path.extname(script) === '' || script.includes('/.bin/');
  if (isCommand && COMMANDS.has(name)) return true;
  const [, found] = /(?:^|.*\/)node_modules\/((?:@[^/]+\/)?[^/]+)\//s.exec(script) ?? [];
  return PACKAGES.has(found);
}

/** The words of a process's command; none if it is gone or hidden. */
function commandOf(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return [];
  }
}

/** A process's parent; NaN if it is gone or hidden. */
function parentOf(pid) {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return NaN;
  }
}

/** Whether one of them started this process, itself or through shells. */
function isOfWrapper() {
  for (let pid = process.ppid; pid > 1; pid = parentOf(pid)) {
    const [program = '', ...words] = commandOf(pid);
    if (words.some(isWrapper)) return true;
    if (!SHELL.test(program)) return false;
  }
  return false;
}

module.exports = { commandOf, isOfWrapper, isWrapper, parentOf };
