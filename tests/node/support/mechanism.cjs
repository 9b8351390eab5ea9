'use strict';
// How TCP connections reach the workers in these tests: by what CL_MECHANISM forces, or else by what a cluster takes that wants nothing.
// Whether the kernel's is allowed, a cluster tells that wants nothing else. Run as a program this prints both.

const { spawnSync } = require('node:child_process');

const MODULE = process.env.CLUSTER_MODULE || 'cluster-rs';
const FORCED = ['passed', 'kernel', 'rotation'];
// The exit code of a probe that was refused.
const REFUSED = 3;
let [known, kernel] = (process.env.TESTS_MECHANISM ?? '').split(' ').map((word) => word || undefined);

// What a cluster says that wants this mechanism; undefined if it is refused.
function probed(wanted) {
  const env = { ...process.env, NODE_OPTIONS: '', MECHANISM_PROBE: wanted };
  for (const name of ['CL_MECHANISM', 'NODE_UNIQUE_ID', 'NODE_CLUSTER_SCHED_POLICY']) delete env[name];
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--no-warnings', __filename], { env, encoding: 'utf8', timeout: 30_000 });
  if (![0, REFUSED].includes(status)) throw new Error(`the mechanism could not be found out: ${stderr}`);
  return status === 0 ? stdout.trim() : undefined;
}

function mechanism() {
  // Stock Node passes connections on, too.
  if (MODULE !== 'cluster-rs') return 'passed';
  known ??= FORCED.includes(process.env.CL_MECHANISM) ? process.env.CL_MECHANISM : probed('auto');
  return known;
}

/** Whether this machine lets a cluster have the mechanism kernel. */
function hasKernel() {
  if (MODULE !== 'cluster-rs') return false;
  kernel ??= probed('kernel') ?? 'without';
  return kernel === 'kernel';
}

/** The mechanism of a policy that is not round-robin: rotation is for that one alone. */
function mechanismOfOthers() {
  return mechanism() === 'rotation' ? hasKernel() ? 'kernel' : 'passed' : mechanism();
}

/**
 * The environment of a test that is about exact turns, or about what waits for one worker. In rotation turns are even in the long run,
 * and who waits is not anybody's yet.
 */
function exactTurns() {
  return mechanism() === 'rotation' ? { CL_MECHANISM: 'passed' } : {};
}

function probe(wanted) {
  // Where no packages are installed for tests, it is there, too.
  const cluster = require('../../../node-addon');
  if (cluster.isWorker) {
    require('node:net').createServer().on('error', () => process.exit(REFUSED)).listen(0, '127.0.0.1');
    return;
  }
  cluster.setupPrimary({ mechanism: wanted });
  cluster.on('exit', (worker, code) => process.exit(code));
  cluster.fork().on('listening', () => {
    console.log(cluster.stats().addresses[0].mechanism);
    process.exit(0);
  });
}

if (process.env.MECHANISM_PROBE) probe(process.env.MECHANISM_PROBE);
else if (require.main === module) console.log(`${mechanism()} ${hasKernel() ? 'kernel' : 'without'}`);

module.exports = { exactTurns, hasKernel, mechanism, mechanismOfOthers };
