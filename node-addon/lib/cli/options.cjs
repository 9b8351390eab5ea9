'use strict';

// The command line. Options may stand before or after the script, up to `--`; what follows `--` is the script's.

const { MECHANISMS, POLICIES } = require('../names.cjs');
const { UsageError } = require('./failure.cjs');
const { count, duration, instances, variable, words } = require('./values.cjs');
const { limits } = require('./limits.cjs');
const { nearest } = require('./suggest.cjs');

const RESPAWNS = ['always', 'on-failure', 'never'];

// Each takes (options, value, the option as it was typed). `value` says whether there is one.
const OPTIONS = {
  'instances': { value: 'yes', set: (o, v, as) => { o.instances = instances(as, v); } },
  'policy': { value: 'yes', set: (o, v, as) => { o.policy = oneOf(as, v, [...POLICIES.keys()]); } },
  'mechanism': { value: 'yes', set: (o, v, as) => { o.mechanism = oneOf(as, v, MECHANISMS); } },
  'respawn': { value: 'yes', set: (o, v, as) => { o.respawn = oneOf(as, v, RESPAWNS); } },
  'instance-var': { value: 'yes', set: (o, v, as) => { o.instanceVar = variable(as, v); } },
  'primary': { value: 'yes', set: (o, v) => { o.primary.push(v); } },
  'node-options': { value: 'yes', set: (o, v, as) => { o.nodeOptions.push(...words(as, v)); } },
  'stop-deadline': { value: 'yes', set: (o, v, as) => { o.stopDeadline = duration(as, v); } },
  'listen-timeout': { value: 'yes', set: (o, v, as) => { o.listenTimeout = duration(as, v, 1); } },
  'parallel': { value: 'yes', set: (o, v, as) => { o.parallel = count(as, v); } },
  'recycle': { value: 'yes', set: (o, v, as) => { o.recycle = { ...o.recycle, ...limits(as, v) }; } },
  'wait-ready': { value: 'no', set: (o) => { o.waitReady = true; } },
  'stats': { value: 'maybe', set: (o, v, as) => { o.stats = v === undefined ? true : duration(as, v, 100); } },
  'help': { value: 'no', set: (o) => { o.help = true; } },
  'version': { value: 'no', set: (o) => { o.version = true; } },
};
/** What others call them. */
const OTHERS = {
  'node-args': 'node-options', 'interpreter-args': 'node-options', 'kill-timeout': 'stop-deadline', 'workers': 'instances', 'processes': 'instances',
  'max-memory-restart': 'recycle', 'max-requests': 'recycle',
};
const SHORT = { i: 'instances', h: 'help', v: 'version' };

function oneOf(option, value, allowed) {
  if (allowed.includes(value)) return value;
  throw new UsageError(`${option} takes ${allowed.slice(0, -1).join(', ')} or ${allowed.at(-1)}, ` +
    `not ${JSON.stringify(value)}`);
}

/** [name, value after `=` or behind the letter, as typed] of `--name`, `--name=value`, `-i`, `-i3`. */
function split(argument) {
  const long = /^--([^=]+)(?:=(.*))?$/s.exec(argument);
  if (long !== null) return [long[1], long[2], `--${long[1]}`];
  const short = /^-([A-Za-z])(?:=?(.+))?$/s.exec(argument);
  return short === null ? ['', undefined, argument] : [SHORT[short[1]] ?? '', short[2], `-${short[1]}`];
}

function parse(argv) {
  const options = {
    script: undefined, args: [], instances: { fewer: 0 }, policy: undefined, mechanism: undefined, respawn: 'always',
    primary: [], instanceVar: 'NODE_APP_INSTANCE', nodeOptions: [], stopDeadline: 30_000, listenTimeout: 10_000,
    parallel: undefined, recycle: undefined, waitReady: false, stats: false, help: false, version: false,
  };
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i];
    if (argument === '--') {
      options.args = argv.slice(i + 1);
      break;
    }
    if (!argument.startsWith('-') || argument === '-') {
      // As pm2 has it: cluster-rs start server.js.
      if (options.script !== undefined && options.script !== 'start') {
        throw new UsageError(`the script is ${options.script} already; its own arguments, such as ${argument}, ` +
          'go after --');
      }
      options.script = argument;
      continue;
    }
    const [name, attached, typed] = split(argument);
    const option = Object.hasOwn(OPTIONS, name) ? OPTIONS[name] : undefined;
    if (option === undefined) {
      const meant = (Object.hasOwn(OTHERS, name) ? OTHERS[name] : undefined) ?? nearest(name, Object.keys(OPTIONS));
      const whose = 'the script\'s own go after --, Node\'s into --node-options';
      throw new UsageError(`unknown option ${typed}; ${meant === undefined ? whose : `did you mean --${meant}? (${whose})`}`);
    }
    if (option.value === 'no' && attached !== undefined) throw new UsageError(`${typed} takes no value`);
    let value = attached;
    if (option.value === 'yes' && value === undefined) {
      value = argv[++i];
      if (value === undefined) throw new UsageError(`${typed} needs a value`);
    }
    option.set(options, value, typed);
    if (options.help || options.version) return options;
  }
  if (options.script === undefined || options.script === '') throw new UsageError('no script was given');
  return options;
}

module.exports = { parse };
