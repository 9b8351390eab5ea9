'use strict';
// How TCP connections reach the workers in these tests: by what CL_MECHANISM forces, or else by the kernel where it is allowed.
// Whether it is, a cluster tells that wants nothing else. Run as a program this prints the name.

const { spawnSync } = require('node:child_process');

const MODULE = process.env.CLUSTER_MODULE || 'cluster-rs';
const FORCED = ['passed', 'kernel', 'rotation'];
// The exit code of a probe that was refused.
const REFUSED = 3;
let known = process.env.TESTS_MECHANISM;

function isAllowed() {
  const env = { ...process.env, NODE_OPTIONS: '', MECHANISM_PROBE: '1' };
  for (const name of ['CL_MECHANISM', 'NODE_UNIQUE_ID', 'NODE_CLUSTER_SCHED_POLICY']) delete env[name];
  const probe = spawnSync(process.execPath, ['--no-warnings', __filename], { env, timeout: 30_000 });
  if (![0, REFUSED].includes(probe.status)) throw new Error(`the mechanism could not be found out: ${probe.stderr}`);
  return probe.status === 0;
}

function mechanism() {
  // Stock Node passes connections on, too.
  if (MODULE !== 'cluster-rs') return 'passed';
  known ??= FORCED.includes(process.env.CL_MECHANISM) ? process.env.CL_MECHANISM : isAllowed() ? 'kernel' : 'passed';
  return known;
}

/** The mechanism of a policy that is not round-robin: rotation is for that one alone. */
function mechanismOfOthers() {
  return mechanism() === 'rotation' ? isAllowed() ? 'kernel' : 'passed' : mechanism();
}

/**
 * The environment of a test that is about exact turns, or about what waits for one worker. In rotation turns are even in the long run,
 * and who waits is not anybody's yet.
 */
function exactTurns() {
  return mechanism() === 'rotation' ? { CL_MECHANISM: 'passed' } : {};
}

function probe() {
  // Where no packages are installed for tests, it is there, too.
  const cluster = require('../../../node-addon');
  if (cluster.isWorker) {
    require('node:net').createServer().on('error', () => process.exit(REFUSED)).listen(0, '127.0.0.1');
    return;
  }
  cluster.setupPrimary({ mechanism: 'kernel' });
  cluster.on('exit', (worker, code) => process.exit(code));
  cluster.fork().on('listening', () => process.exit(0));
}

if (process.env.MECHANISM_PROBE) probe();
else if (require.main === module) console.log(mechanism());

module.exports = { exactTurns, mechanism, mechanismOfOthers };
