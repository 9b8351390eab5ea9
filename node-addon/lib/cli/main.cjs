'use strict';

// The command, from its arguments to its exit code.

const { Failure } = require('./failure.cjs');
const { parse } = require('./options.cjs');
const { usableCpus } = require('./cpus.cjs');
const preload = require('./preload.cjs');
const { find, loadAll, typescript } = require('./script.cjs');
const { buryOrphans } = require('./orphans.cjs');
const { Releases } = require('./releases.cjs');
const signals = require('./signals.cjs');
const { absence, load } = require('../addon.cjs');
const { BEHIND_WRAPPER } = require('../environment.cjs');
const { ownFile } = require('../own-files.cjs');
const { POLICIES } = require('../names.cjs');
const { supervise } = require('../primary/fleet.cjs');
const { isWrapper } = require('../wrapper.cjs');
const { version } = require('../../package.json');

/** One Ctrl-C may come as two signals, from the terminal and from npx. A later one is another. */
const SAME_SIGNAL = 500;
/** How long to wait for a stuck reader of the log once everything else has ended as asked. */
const LOG_PATIENCE = 2000;
const FOR_EVER = 2 ** 31 - 1;

/** How many workers, and why so many. */
function howMany(wanted) {
  if (wanted.count !== undefined) return { count: wanted.count, why: null };
  const usable = usableCpus();
  const count = Math.max(1, usable.count - wanted.fewer);
  return { count, why: wanted.fewer === 0 ? usable.why : `${usable.why}; ${wanted.fewer} fewer, at least one` };
}

function setUp(cluster, options, script) {
  if (!cluster.isPrimary) throw new Failure('cluster-rs cannot run inside a worker of a cluster');
  const stray = absence() ? null : load().whyNoWorkers();
  if (stray) throw new Failure(stray);
  if (options.policy !== undefined) cluster.schedulingPolicy = POLICIES.get(options.policy);
  const { args, mechanism, waitReady } = options;
  const stdio = ['ignore', 'pipe', 'pipe', 'ipc'];
  cluster.setupPrimary({ exec: script, args, stdio, ...(mechanism && { mechanism }), ...(waitReady && { waitReady }) });
}

/** How the worker of a slot is made. */
function recipes({ nodeOptions, instanceVar }, script, releases) {
  const more = [...nodeOptions, ...typescript(script, nodeOptions)];
  return (slot, generation) => {
    const exec = releases.fileOf(generation);
    return {
      settings: { exec, execArgv: [...preload.execArgvFor(exec), ...more] },
      env: { [instanceVar]: String(slot), [BEHIND_WRAPPER]: ownFile('lib/cli/behind-wrapper.cjs', exec) },
    };
  };
}

/** What makes the workers. */
function fleetOf(cluster, supervisor) {
  if (absence()) {
    const { StockFleet } = require('./stock-fleet.cjs');
    return new StockFleet(cluster, supervisor);
  }
  try {
    return supervise(cluster, supervisor);
  } catch (error) {
    throw new Failure(`no worker can be started: ${error.message}`);
  }
}

function obeySignals({ supervisor, renewals, output }) {
  let last = -Infinity;
  const stop = (signal) => {
    const now = performance.now();
    if (now - last < SAME_SIGNAL) return;
    last = now;
    const live = supervisor.slots.all.filter((slot) => slot.life !== null).length;
    output.say(supervisor.stopping ? `${signal} again: making haste` :
      `${signal}: stopping ${live} worker${live === 1 ? '' : 's'}`);
    supervisor.stop(signal);
  };
  signals.obey({ stop, reload: () => renewals.reload(), scale: (signal, more) => renewals.scale(signal, more) });
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
  const { answer, isEcosystem } = require('./ecosystem.cjs');
  if (isEcosystem(options.script)) throw await answer(options.script);
  const script = find(options.script);
  const cluster = require('../../index.cjs');
  setUp(cluster, options, script);
  // A server in a worker's child finds the port of another's taken.
  const isAlone = absence() !== undefined && isWrapper(script);
  const { count, why } = isAlone ? { count: 1, why: null } : howMany(options.instances);
  if (isAlone) output.warn(`only one worker can serve behind ${options.script} without the addon`);
  await loadAll(options.primary);

  const { Supervisor } = require('./supervisor.cjs');
  const { Renewals } = require('./renewals.cjs');
  const { Stats } = require('./stats.cjs');
  const releases = new Releases(script);
  const supervisor = new Supervisor({
    recipe: recipes(options, script, releases), fleetFor: (theirs) => fleetOf(cluster, theirs), count, name: options.script, options, output,
  });
  const renewals = new Renewals({ cluster, supervisor, releases, options, output });
  obeySignals({ supervisor, renewals, output });
  if (!absence()) buryOrphans((pid) => supervisor.pids.has(pid), load().reapOrphan);
  output.say(`version ${version}, pid ${process.pid}: ${count} worker${count === 1 ? '' : 's'} of ${options.script}` +
    (why === null ? '' : ` (${why})`));
  // While no worker runs the engine's clock goes on, and that alone keeps no process alive.
  setInterval(() => {}, FOR_EVER);
  supervisor.start();
  const stats = options.stats === false ? null :
    new Stats({ cluster, supervisor, output, interval: options.stats });
  const code = await supervisor.finished;
  stats?.end();
  if (supervisor.stopping) setTimeout(() => process.exit(code), LOG_PATIENCE);
  return code;
}

async function main(argv) {
  const { Output } = require('./output.cjs');
  const output = new Output();
  let code;
  try {
    code = await run(argv, output);
  } catch (error) {
    const isOfAddon = error.code === 'ERR_CLUSTER_RS_ADDON';
    if (!isOfAddon && !(error instanceof Failure)) throw error;
    output.warn(isOfAddon ? error.message.split('\n')[0] : error.message);
    code = error.exitCode ?? 1;
  }
  // From here on only output is waited for.
  signals.endWith(code);
  await output.finished();
  process.exit(code);
}

module.exports = { main };
