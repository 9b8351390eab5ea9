'use strict';

// pm2's file of programs, and the commands that do the same here.

const fs = require('node:fs');
const path = require('node:path');

const { Failure } = require('./failure.cjs');

const NAMES = /^(?:.*\.)?(?:ecosystem\.config|pm2\.config|ecosystem)\.(?:[cm]?js|json|ya?ml)$/;
/** What pm2 does and cluster-rs does not. */
const NOT_HERE = ['watch', 'cron_restart', 'error_file', 'out_file', 'log_file', 'max_restarts', 'interpreter'];

function isEcosystem(script) {
  return NAMES.test(path.basename(script)) && fs.existsSync(script);
}

/** A word as a shell takes it. */
function quoted(word) {
  const text = String(word);
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The words of a list, or a text that has its own quotes. */
function listed(given) {
  return Array.isArray(given) ? given.map(quoted).join(' ') : String(given ?? '');
}

function commandOf(app) {
  const { script, cwd, args, env } = app;
  const words = [];
  if (cwd !== undefined) words.push(`cd ${quoted(cwd)} &&`);
  for (const [name, value] of Object.entries(Object(env))) words.push(`${name}=${quoted(value)}`);
  words.push('cluster-rs', '-i', quoted(app.instances ?? 1));
  const option = (name, value) => value !== undefined && words.push(name, quoted(value));
  const ms = (value) => (Number.isFinite(Number(value ?? NaN)) ? `${Number(value)}ms` : undefined);
  option('--stop-deadline', ms(app.kill_timeout));
  option('--listen-timeout', ms(app.listen_timeout));
  const nodeArgs = app.node_args ?? app.interpreter_args;
  option('--node-options', nodeArgs === undefined ? undefined : Array.isArray(nodeArgs) ? nodeArgs.join(' ') : nodeArgs);
  const { max_memory_restart: memory } = app;
  option('--recycle', memory === undefined ? undefined : `rss=${memory}`);
  if (app.wait_ready === true) words.push('--wait-ready');
  option('--respawn', app.autorestart === false ? 'never' : undefined);
  words.push(quoted(script));
  if (args !== undefined && listed(args) !== '') words.push('--', listed(args));
  const missing = NOT_HERE.filter((name) => app[name] !== undefined && app[name] !== false);
  return words.join(' ') + (missing.length === 0 ? '' : ` (not here: ${missing.join(', ')})`);
}

async function appsIn(file) {
  if (/\.ya?ml$/.test(file)) return [];
  const given = /\.json$/.test(file) ? require(file) : await import(require('node:url').pathToFileURL(file));
  // pm2 takes a list without a name, or one program, too.
  const all = given.default ?? given;
  return [all?.apps ?? all].flat().filter((app) => typeof app?.script === 'string');
}

/** What to say to somebody who gives such a file as the script. */
async function answer(script) {
  const what = `${script} is a file of pm2's, and no program`;
  let apps;
  try {
    apps = await appsIn(path.resolve(script));
  } catch (error) {
    return new Failure(`${what}; it cannot be read: ${String(error?.message).split('\n')[0]}`, 2);
  }
  const commands = apps.map(commandOf);
  if (commands.length === 0) return new Failure(`${what}; give the script in it: cluster-rs -i max server.js`, 2);
  const lines = commands.length === 1 ? ` ${commands[0]}` : commands.map((line) => `\n  ${line}`).join('');
  return new Failure(`${what}; the same here:${lines}`, 2);
}

module.exports = { answer, isEcosystem };
