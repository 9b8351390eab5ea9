'use strict';

// The command, from its arguments to its exit code.

const { Failure } = require('./failure.cjs');
const { parse } = require('./options.cjs');
const { usableCpus } = require('./cpus.cjs');
const { watchTerminal } = require('./hangup.cjs');
const preload = require('./preload.cjs');
const { find, typescript } = require('./script.cjs');
const { buryOrphans } = require('./orphans.cjs');
const { load } = require('../addon.cjs');
const { version } = require('../../package.json');

const SIGNALS = ['SIGTERM', 'SIGINT'];
/** One Ctrl-C may come as two signals, from the terminal and from npx. A later one is another. */
const SAME_SIGNAL = 500;
/** How long to wait for a stuck reader of the log once everything else has ended as asked. */
const LOG_PATIENCE = 2000;

// Process 1 of a container gets only signals that it listens for, hence this listener from the first moment on.
function nothingToStop() {
  process.exit(0);
}

/** How many workers, and why so many. */
function howMany(wanted) {
  if (wanted.count !== undefined) return { count: wanted.count, why: null };
  const usable = usableCpus();
  const count = Math.max(1, usable.count - wanted.fewer);
  return { count, why: wanted.fewer === 0 ? usable.why : `${usable.why}; ${wanted.fewer} fewer, at least one` };
}

function setUp(cluster, options, script) {
  if (!cluster.isPrimary) throw new Failure('cluster-rs cannot run inside a worker of a cluster');
  const stray = load().whyNoWorkers();
  if (stray) throw new Failure(stray);
  if (options.policy !== undefined) cluster.schedulingPolicy = new Map(load().policies()).get(options.policy);
  const execArgv = [...preload.execArgv, ...options.nodeOptions, ...typescript(script, options.nodeOptions)];
  const { mechanism } = options;
  const stdio = ['ignore', 'pipe', 'pipe', 'ipc'];
  cluster.setupPrimary({ exec: script, args: options.args, execArgv, stdio, ...(mechanism && { mechanism }) });
}

function listenToSignals({ supervisor, reload, output }) {
  SIGNALS.forEach((signal) => process.removeListener(signal, nothingToStop));
  const terminalClosed = watchTerminal();
  let last = -Infinity;
  const stop = (signal) => {
    const now = performance.now();
    if (now - last < SAME_SIGNAL) return;
    last = now;
    const live = supervisor.slots.filter((slot) => slot.life !== null).length;
    output.say(supervisor.stopping ? `${signal} again: making haste` :
      `${signal}: stopping ${live} worker${live === 1 ? '' : 's'}`);
    supervisor.stop(signal);
  };
  SIGNALS.forEach((signal) => process.on(signal, stop));
  process.on('SIGHUP', (signal) => {
    if (terminalClosed()) stop(signal);
    else if (!supervisor.stopping) reload.request();
  });
}

async function run(argv, output) {
  const options = parse(argv);
  if (options.help) {
    output.out.write(require('./help.cjs')(usableCpus()));
    return 0;
  }
  if (options.version) {
    output.out.write(`${version}\n`);
    return 0;
  }
  const script = find(options.script);
  const { count, why } = howMany(options.instances);
  const cluster = require('../../index.cjs');
  setUp(cluster, options, script);

  const { Supervisor } = require('./supervisor.cjs');
  const { Reload } = require('./reload.cjs');
  const { Stats } = require('./stats.cjs');
  const fork = (slot) => cluster.fork({ NODE_APP_INSTANCE: String(slot) });
  const supervisor = new Supervisor({ fork, count, name: options.script, options, output });
  const reload = new Reload({ supervisor, options, output });
  listenToSignals({ supervisor, reload, output });
  buryOrphans((pid) => supervisor.pids.has(pid), load().reapOrphan);
  output.say(`version ${version}, pid ${process.pid}: ${count} worker${count === 1 ? '' : 's'} of ${options.script}` +
    (why === null ? '' : ` (${why})`));
  supervisor.start();
  const stats = options.stats === false ? null :
    new Stats({ cluster, supervisor, output, interval: options.stats });
  const code = await supervisor.finished;
  stats?.end();
  // From here on only output is waited for.
  SIGNALS.forEach((signal) => process.on(signal, () => process.exit(code)));
  if (supervisor.stopping) setTimeout(() => process.exit(code), LOG_PATIENCE);
  return code;
}

async function main(argv) {
  const { Output } = require('./output.cjs');
  const output = new Output();
  SIGNALS.forEach((signal) => process.on(signal, nothingToStop));
  let code;
  try {
    code = await run(argv, output);
  } catch (error) {
    const isOfAddon = error.code === 'ERR_CLUSTER_RS_ADDON';
    if (!isOfAddon && !(error instanceof Failure)) throw error;
    output.warn(isOfAddon ? error.message.split('\n')[0] : error.message);
    code = error.exitCode ?? 1;
  }
  await output.finished();
  process.exit(code);
}

module.exports = { main };
